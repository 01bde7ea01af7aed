//! What to tell where a stage's memory does not suffice.

use std::fmt;

use bace_api::{Action, Prepare};
use bace_models::{STATE_BYTES_PER_PARAMETER, StageMemory};

const BYTES_PER_GB: f64 = 1e9;

/// A stage that found no memory: what it needs by the scheduler's formula, and what libtorch says it could have.
#[derive(Debug, Clone, PartialEq)]
pub struct OutOfMemory {
    need: Need,
    said: Said,
}

/// What a stage needs, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    memory: StageMemory,
    in_flight: u32,
    /// What the computer keeps beyond the formula.
    beyond_bytes: u64,
}

impl OutOfMemory {
    /// Understands libtorch's message, if it is about memory; the computer keeps so many bytes for each parameter beyond the
    /// scheduler's formula.
    pub fn of(prepare: &Prepare, beyond_bytes_per_parameter: u64, message: &str) -> Option<Self> {
        let said = Said::of(message)?;
        Some(Self {
            need: Need::of(prepare, beyond_bytes_per_parameter),
            said,
        })
    }
}

/// What libtorch's `message` says of short memory, if it is about that.
pub fn lack_of_memory(message: &str) -> Option<String> {
    Said::of(message).map(|said| said.to_string())
}

impl Need {
    fn of(prepare: &Prepare, beyond_bytes_per_parameter: u64) -> Self {
        // The formula asks for all stages' layers, and of the others only whether they are there.
        let own = prepare.layers.end - prepare.layers.start;
        let before = prepare.previous.iter().map(|_| 1);
        let behind = prepare.next.iter().map(|_| 1);
        let stage = usize::from(prepare.previous.is_some());
        let layers: Vec<u32> = before.chain([own]).chain(behind).collect();
        let (model, shape) = (&prepare.job.model, &prepare.job.shape);
        let memory = StageMemory::of(model, shape, &layers, stage);
        let parameters = memory.state_bytes / STATE_BYTES_PER_PARAMETER;
        Self {
            memory,
            in_flight: most_in_flight(&prepare.program),
            beyond_bytes: parameters.saturating_mul(beyond_bytes_per_parameter),
        }
    }
}

/// Most micro-batches between their forward and their backward at one time.
fn most_in_flight(program: &[Action]) -> u32 {
    let (mut now, mut most) = (0u32, 0);
    for action in program {
        match action {
            Action::Forward(_) => now += 1,
            Action::Backward(_) => now = now.saturating_sub(1),
            _ => {}
        }
        most = most.max(now);
    }
    most
}

/// What of libtorch's message tells something.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    /// What libtorch asked the device for last, in its words.
    tried: String,
    /// What the device has and allows, in libtorch's words; empty where it does not tell.
    have: Vec<String>,
}

impl Said {
    fn of(message: &str) -> Option<Self> {
        let about = [
            "out of memory",
            "can't allocate memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
        ];
        let begin = about.iter().find_map(|words| message.find(words))?;
        // On a GPU and on the CPU it writes sentences; behind the first line, escaped or not, stands its own stack.
        let line = message[begin..].split("\\n").next().unwrap_or_default();
        let line = line.lines().next().unwrap_or_default();
        let tried = ["Tried to allocate ", "tried to allocate "]
            .iter()
            .find_map(|words| line.split_once(words))
            .map(|(_, rest)| until_sentence_ends(rest));
        // A cap on what the process may have ends in a semicolon, and the next sentence goes on behind it.
        let parts = line.split(". ").flat_map(|sentence| sentence.split("; "));
        let have = parts
            .map(|part| part.trim_end_matches('.'))
            .filter(|part| tells_what_there_is(part))
            .map(str::to_owned)
            .collect();
        Some(Self {
            tried: tried.unwrap_or_else(|| "what it needed next".to_owned()),
            have,
        })
    }
}

/// Whether a part of libtorch's message is about the device's memory and who has it.
fn tells_what_there_is(part: &str) -> bool {
    let begins = [
        "GPU ",
        "Process ",
        "Including non-PyTorch memory",
        "Of the allocated memory ",
    ];
    part.ends_with(" allowed") || begins.iter().any(|begin| part.starts_with(begin))
}

/// Up to a full stop that is none of a number.
fn until_sentence_ends(text: &str) -> String {
    let end = text.find(". ").unwrap_or(text.len());
    text[..end].trim_end_matches(['.', '"', ')']).to_owned()
}

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "libtorch could not get {}", self.tried)?;
        match self.have.is_empty() {
            true => write!(out, " and does not say what there is"),
            false => write!(out, ": {}", self.have.join("; ")),
        }
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Need {
            memory,
            in_flight,
            beyond_bytes,
        } = self.need;
        let gb = |bytes: u64| bytes as f64 / BYTES_PER_GB;
        write!(
            out,
            "find memory: by the scheduler's formula the stage needs {:.3} GB ({:.3} GB of weights, gradients and moments, {:.3} GB of activations of {in_flight} micro-batches in flight, {:.3} GB for the loss)",
            gb(memory.peak_bytes(in_flight)),
            gb(memory.state_bytes),
            gb(memory.activation_bytes.saturating_mul(in_flight.into())),
            gb(memory.working_bytes),
        )?;
        if beyond_bytes > 0 {
            let beyond = gb(beyond_bytes);
            write!(
                out,
                ", and {beyond:.3} GB beyond it for weights cast to bf16"
            )?;
        }
        write!(out, "; {}", self.said)?;
        write!(
            out,
            "; use fewer workers on a device (or a larger --device-memory-gb), a smaller `micro_batch`, or more GPUs for the job"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUDA: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB of which 12.62 MiB is free. Process 4242 has 19.75 GiB memory in use. 19.00 GiB allowed; Of the allocated memory 18.32 GiB is allocated by PyTorch, and 211.50 MiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.\\nException raised from malloc at ../c10/cuda/CUDACachingAllocator.cpp:1700\")";
    const CPU: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296000 bytes. Error code 12 (Cannot allocate memory)\\nframe #0\")";

    #[test]
    fn libtorchs_sentences_are_understood() {
        let cuda = Said::of(CUDA).unwrap();
        assert_eq!(cuda.tried, "20.00 MiB");
        assert_eq!(
            cuda.have,
            [
                "GPU 0 has a total capacity of 79.10 GiB of which 12.62 MiB is free",
                "Process 4242 has 19.75 GiB memory in use",
                "19.00 GiB allowed",
                "Of the allocated memory 18.32 GiB is allocated by PyTorch, and 211.50 MiB is reserved by PyTorch but unallocated",
            ]
        );
        let cpu = Said::of(CPU).unwrap();
        assert_eq!(cpu.tried, "4294967296000 bytes");
        assert!(cpu.have.is_empty());
        let cublas =
            Said::of("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`");
        assert_eq!(cublas.unwrap().tried, "what it needed next");
        assert_eq!(
            Said::of("CUDA error: an illegal memory access was encountered"),
            None
        );
        assert_eq!(Said::of("shape mismatch"), None);
    }

    #[test]
    fn need_and_have_are_told() {
        let mut out = OutOfMemory {
            need: Need {
                memory: StageMemory {
                    state_bytes: 16_000_000_000,
                    activation_bytes: 500_000_000,
                    working_bytes: 250_000_000,
                },
                in_flight: 4,
                beyond_bytes: 0,
            },
            said: Said {
                tried: "20.00 MiB".to_owned(),
                have: vec![
                    "GPU 0 has a total capacity of 16.00 GiB of which 1.00 MiB is free".to_owned(),
                ],
            },
        };
        assert_eq!(
            out.to_string(),
            "find memory: by the scheduler's formula the stage needs 18.250 GB (16.000 GB of weights, gradients and moments, 2.000 GB of activations of 4 micro-batches in flight, 0.250 GB for the loss); libtorch could not get 20.00 MiB: GPU 0 has a total capacity of 16.00 GiB of which 1.00 MiB is free; use fewer workers on a device (or a larger --device-memory-gb), a smaller `micro_batch`, or more GPUs for the job"
        );
        out.need.beyond_bytes = 2_000_000_000;
        let told = out.to_string();
        assert!(
            told.contains(
                "0.250 GB for the loss), and 2.000 GB beyond it for weights cast to bf16; libtorch could not get"
            ),
            "{told}"
        );
    }

    #[test]
    fn micro_batches_in_flight_are_counted() {
        use bace_api::MicroBatch;
        let (forward, backward) = (
            |m| Action::Forward(MicroBatch(m)),
            |m| Action::Backward(MicroBatch(m)),
        );
        let program = [
            forward(0),
            forward(1),
            backward(0),
            forward(2),
            backward(1),
            backward(2),
            Action::Step,
        ];
        assert_eq!(most_in_flight(&program), 2);
    }
}
