//! Well-known models and GPU types, by name.
//!
//! Models follow the `config.json` their authors publish beside the weights. Where a published model ties its head to
//! its embedding, here it counts as untied. Peaks, memory and board power are the data sheets' (dense, 16-bit);
//! `mfu` and `idle_w` are in no data sheet: 0.40 is a usual share reached in training, and idle watts
//! are typical readings of idle boards. A scenario overrides them with a table of the same name.

use crate::{GpuType, ModelSpec};

/// The built-in model of this name.
pub fn model(name: &str) -> Option<ModelSpec> {
    models()
        .find(|(known, _)| *known == name)
        .map(|(_, model)| model)
}

/// All built-in models with their names.
pub fn models() -> impl Iterator<Item = (&'static str, ModelSpec)> {
    MODELS.iter().map(|&(name, sizes, gated)| {
        let [
            layers,
            hidden,
            heads,
            kv_heads,
            head_size,
            feed_forward,
            vocabulary,
        ] = sizes;
        let model = ModelSpec {
            layers,
            hidden,
            heads,
            kv_heads,
            head_size,
            feed_forward,
            gated,
            vocabulary,
        };
        (name, model)
    })
}

/// The built-in GPU type of this name.
pub fn gpu(name: &str) -> Option<GpuType> {
    gpus().find(|(known, _)| *known == name).map(|(_, gpu)| gpu)
}

/// All built-in GPU types with their names.
pub fn gpus() -> impl Iterator<Item = (&'static str, GpuType)> {
    GPUS.iter()
        .map(|&(name, tflops, memory_gb, busy_w, idle_w)| {
            let gpu = GpuType {
                flops: tflops * 1e12,
                mfu: TYPICAL_MFU,
                memory_bytes: memory_gb * 1_000_000_000,
                busy_w,
                idle_w,
            };
            (name, gpu)
        })
}

const TYPICAL_MFU: f64 = 0.40;

/// Name; layers, hidden, heads, key/value heads, head size, feed-forward, vocabulary; gated.
const MODELS: &[(&str, [u32; 7], bool)] = &[
    // huggingface.co/openai-community/gpt2
    ("gpt2", [12, 768, 12, 12, 64, 3072, 50_257], false),
    // huggingface.co/openai-community/gpt2-xl
    ("gpt2-xl", [48, 1600, 25, 25, 64, 6400, 50_257], false),
    // huggingface.co/Qwen/Qwen2.5-0.5B
    ("qwen2.5-0.5b", [24, 896, 14, 2, 64, 4864, 151_936], true),
    // huggingface.co/Qwen/Qwen2.5-7B
    ("qwen2.5-7b", [28, 3584, 28, 4, 128, 18_944, 152_064], true),
    // huggingface.co/mistralai/Mistral-7B-v0.1
    ("mistral-7b", [32, 4096, 32, 8, 128, 14_336, 32_000], true),
    // huggingface.co/meta-llama/Llama-3.1-8B
    (
        "llama-3.1-8b",
        [32, 4096, 32, 8, 128, 14_336, 128_256],
        true,
    ),
    // huggingface.co/Qwen/Qwen2.5-14B
    ("qwen2.5-14b", [48, 5120, 40, 8, 128, 13_824, 152_064], true),
    // huggingface.co/google/gemma-3-27b-pt
    (
        "gemma-3-27b",
        [62, 5376, 32, 16, 128, 21_504, 262_208],
        true,
    ),
    // huggingface.co/Qwen/Qwen2.5-32B
    ("qwen2.5-32b", [64, 5120, 40, 8, 128, 27_648, 152_064], true),
    // huggingface.co/01-ai/Yi-34B
    ("yi-34b", [60, 7168, 56, 8, 128, 20_480, 64_000], true),
    // huggingface.co/tiiuae/falcon-40b
    ("falcon-40b", [60, 8192, 128, 8, 64, 32_768, 65_024], false),
    // huggingface.co/meta-llama/Llama-3.1-70B
    (
        "llama-3.1-70b",
        [80, 8192, 64, 8, 128, 28_672, 128_256],
        true,
    ),
    // huggingface.co/Qwen/Qwen2.5-72B
    ("qwen2.5-72b", [80, 8192, 64, 8, 128, 29_568, 152_064], true),
    // huggingface.co/CofeAI/FLM-101B
    (
        "flm-101b",
        [80, 10_240, 80, 80, 128, 40_960, 100_256],
        false,
    ),
    // Brown et al. 2020, arXiv 2005.14165, table 2.1; GPT-2's vocabulary
    (
        "gpt-3-175b",
        [96, 12_288, 96, 96, 128, 49_152, 50_257],
        false,
    ),
    // huggingface.co/meta-llama/Llama-3.1-405B
    (
        "llama-3.1-405b",
        [126, 16_384, 128, 8, 128, 53_248, 128_256],
        true,
    ),
];

/// Name; peak TFLOP/s (16-bit, dense); memory in 10^9 bytes; watts busy and idle.
const GPUS: &[(&str, f64, u64, f64, f64)] = &[
    // NVIDIA RTX A6000 data sheet
    ("a6000", 154.8, 48, 300.0, 22.0),
    // NVIDIA T4 data sheet
    ("t4", 65.0, 16, 70.0, 10.0),
    // NVIDIA V100 data sheet, SXM2 with 32 GB
    ("v100-32gb", 125.0, 32, 300.0, 40.0),
    // NVIDIA A100 data sheet, SXM4
    ("a100-40gb", 312.0, 40, 400.0, 50.0),
    ("a100-80gb", 312.0, 80, 400.0, 55.0),
    // NVIDIA Ada architecture white paper, RTX 4090 with FP32 accumulation
    ("rtx4090", 165.2, 24, 450.0, 20.0),
    // NVIDIA L40S data sheet
    ("l40s", 362.05, 48, 350.0, 35.0),
    // NVIDIA H100 data sheet, SXM5
    ("h100", 989.4, 80, 700.0, 70.0),
    // NVIDIA H200 data sheet, SXM
    ("h200", 989.4, 141, 700.0, 75.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_is_a_model_and_every_name_is_found_once() {
        for (name, spec) in models() {
            spec.validate()
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(models().filter(|(other, _)| *other == name).count(), 1);
            assert_eq!(model(name), Some(spec));
        }
        for (name, spec) in gpus() {
            assert_eq!(gpus().filter(|(other, _)| *other == name).count(), 1);
            assert_eq!(gpu(name), Some(spec));
        }
        assert_eq!(model("gpt-9"), None);
    }
}
