//! `bace profile`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, anyhow, bail};
use bace_api::{ProfileReply, ProfileRequest, ProfileTask, TimesReply};
use bace_models::{Fit, Part, Percentiles, ProfiledDevice, SetUpFit};

use super::file::{Entry, MICROSECONDS, MemoryPeak, Origin, PERCENT, ProfileFile, file_name};
use super::memory;
use super::set_up;
use super::wanted::{Wanted, wanted};
use crate::cli::ProfileArgs;
use crate::output::say;
use crate::run::{ask_worker_for_profile, identity_of};
use crate::wrong_input::WrongInput;

/// Measures what is asked for, one entry after the other; each is kept as soon as it is measured.
///
/// # Errors
/// If the device's file is there and cannot be added to: nothing is measured then. And those of a measurement.
pub fn profile(args: &ProfileArgs) -> anyhow::Result<bool> {
    let wanted = wanted(args)?;
    // A file that nothing can be added to shows before hours of measuring.
    let device = identity_of(&args.device, args.precision, args.data.as_deref())?;
    target(&args.out, &device)?;
    for wanted in wanted {
        measure(args, &wanted, &mut |line| say!("{line}"))?;
    }
    Ok(true)
}

/// Measures one entry, tells what was found line by line, and keeps it.
pub fn measure(
    args: &ProfileArgs,
    wanted: &Wanted,
    tell: &mut dyn FnMut(String),
) -> anyhow::Result<()> {
    let request = ProfileRequest {
        device: args.device.clone(),
        precision: args.precision.map(|precision| precision.word().to_owned()),
        text: args.data.clone(),
        model: wanted.key.model,
        shape: wanted.key.shape,
        task: ProfileTask::Times {
            rounds: args.repeats,
        },
    };
    tell(wanted.to_string());
    let times = match ask_worker_for_profile(&request)? {
        ProfileReply::Times(times) => *times,
        ProfileReply::Memory(_) | ProfileReply::SetUp(_) => {
            bail!("ask bace-worker for times: it told something else")
        }
    };
    lines_of(&times).into_iter().for_each(&mut *tell);
    judge(&times.fit, args.most_error, args.most_residual)?;
    let set_up = set_up::measure(&request).and_then(|fit| {
        tell(format!("  {}", set_up::line(&fit)));
        set_up::judge(&fit, args.most_residual)?;
        Ok(fit)
    });
    let entry = entry(wanted, &times, set_up, memory::measure(&request));
    if let Some(reason) = &entry.set_up_absent {
        tell(format!("  set-ups are not known: {reason}"));
    }
    for line in memory::lines(&wanted.key, &entry.memory) {
        tell(format!("  {line}"));
    }
    if let Some(reason) = &entry.memory_absent {
        tell(format!("  peaks of memory are not known: {reason}"));
    }
    let path = keep(&args.out, &times.device, entry)?;
    tell(format!("  kept in {}\n", path.display()));
    Ok(())
}

/// What is kept. Times that are known stay known where set-ups or memory cannot be measured.
fn entry(
    wanted: &Wanted,
    times: &TimesReply,
    set_up: anyhow::Result<SetUpFit>,
    memory: anyhow::Result<Result<Vec<MemoryPeak>, String>>,
) -> Entry {
    let origin = Origin {
        models: wanted.models.clone(),
        measured: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        machine: crate::machine::describe(),
    };
    let failed =
        |error: anyhow::Error| Some(format!("failed to {}", bace_api::told(error.as_ref())));
    let (set_up, set_up_absent) = match set_up {
        Ok(fit) => (Some(fit), None),
        Err(error) => (None, failed(error)),
    };
    let mut entry = Entry::of(&wanted.key, times, set_up.as_ref(), origin);
    entry.set_up_absent = set_up_absent;
    match memory {
        Ok(Ok(peaks)) => entry.memory = peaks,
        Ok(Err(reason)) => entry.memory_absent = Some(reason),
        Err(error) => entry.memory_absent = failed(error),
    }
    entry
}

/// Refuses times that are not known well enough to predict anything from.
fn judge(fit: &Fit, most_error: f64, most_residual: f64) -> anyhow::Result<()> {
    let advice = "let nothing else run beside, take more --repeats, larger micro-batches (what takes microseconds drowns in noise), \
                  or allow more with --most-error";
    if fit.error_share > most_error || fit.error_share.is_nan() {
        bail!(
            "keep these times: a layer's are uncertain by {:.1} %, more than {:.1} %; {advice}",
            fit.error_share * PERCENT,
            most_error * PERCENT
        );
    }
    if fit.drift_share.abs() > most_error || fit.drift_share.is_nan() {
        bail!(
            "keep these times: a layer's changed by {:+.1} % while they were measured, more than {:.1} %; {advice}",
            fit.drift_share * PERCENT,
            most_error * PERCENT
        );
    }
    let parts = fit.parts.map(|times| times.median);
    parts
        .check()
        .with_context(|| format!("keep these times: they are lost in noise; {advice}"))?;
    for (what, share) in [
        ("forward and backward", fit.residual_share),
        ("step", fit.step_residual_share),
    ] {
        if share.abs() > most_residual || share.is_nan() {
            bail!(
                "keep these times: a whole model's {what} takes {:+.1} % of what its parts add up to beyond it, more than {:.1} %, so that \
                 predictions would be as far off; let nothing else run beside, take more --repeats, or allow more with --most-residual",
                share * PERCENT,
                most_residual * PERCENT
            );
        }
    }
    Ok(())
}

/// The file of `device` under `folder` as it is, which entries can be added to; without entries where there is none.
fn target(folder: &Path, device: &ProfiledDevice) -> anyhow::Result<(PathBuf, ProfileFile)> {
    let path = folder.join(file_name(device));
    let file = match std::fs::read_to_string(&path) {
        Ok(text) => ProfileFile::parse(&text).map_err(|problem| {
            WrongInput::error(format!("read the profile {}: {problem}", path.display()))
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ProfileFile::of(device.clone())
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    if file.device != *device {
        return Err(WrongInput::error(format!(
            "add to the profile {}: it is that of another device, {}; move it away",
            path.display(),
            file.device.name
        )));
    }
    Ok((path, file))
}

/// Puts an entry into its device's file, whole or not at all; which file that is.
fn keep(folder: &Path, device: &ProfiledDevice, entry: Entry) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let (path, mut file) = target(folder, device)?;
    file.merge(entry);
    let written = || format!("write {}", path.display());
    let text = file.text().with_context(written)?;
    // A file that nobody can read would take the entries with it that are there already.
    ProfileFile::parse(&text)
        .map_err(|problem| anyhow!("keep what was measured in {}: {problem}", path.display()))?;
    let partial = path.with_extension("toml.partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, &path))
        .with_context(written)?;
    Ok(path)
}

/// What was measured, for people.
fn lines_of(times: &TimesReply) -> Vec<String> {
    let (fit, parts) = (&times.fit, &times.fit.parts);
    let heading = format!(
        "  {:<12} {:>30} {:>30} {:>30}",
        "us (p5-p95)", "forward", "backward", "step"
    );
    let of_part = |(name, part): (&str, &Part<Percentiles>)| {
        let [forward, backward, step] = [part.forward_s, part.backward_s, part.step_s].map(spread);
        format!("  {name:<12} {forward:>30} {backward:>30} {step:>30}")
    };
    let of_parts = [
        ("layer", &parts.layer),
        ("embedding", &parts.embedding),
        ("head", &parts.head),
        ("every stage", &parts.stage),
    ];
    let copies = format!(
        "  a boundary tensor from bytes {}, to bytes {}",
        spread(parts.copy_in_s),
        spread(parts.copy_out_s)
    );
    let certainty = format!(
        "  {} rounds after {} to warm up; a layer is known to {:.1} %, and changed by {:+.1} % meanwhile",
        fit.rounds,
        times.warm_up_rounds,
        fit.error_share * PERCENT,
        fit.drift_share * PERCENT
    );
    let residual = format!(
        "  a whole model takes {:+.1} % of what its parts add up to beyond it, its step {:+.1} %",
        fit.residual_share * PERCENT,
        fit.step_residual_share * PERCENT
    );
    let parts = of_parts.into_iter().map(of_part);
    let lines = std::iter::once(heading).chain(parts);
    lines.chain([copies, certainty, residual]).collect()
}

fn spread(seconds: Percentiles) -> String {
    let [median, p5, p95] =
        [seconds.median, seconds.p5, seconds.p95].map(|seconds| seconds * MICROSECONDS);
    format!("{median:.1} ({p5:.1} - {p95:.1})")
}

#[cfg(test)]
mod tests {
    use bace_models::ProfileKey;

    use super::*;
    use crate::profile::file::tests::times;

    #[test]
    fn what_is_not_known_well_enough_is_refused_with_advice() {
        let fit = times(0.001).fit;
        judge(&fit, 0.05, 0.1).unwrap();
        let told = judge(&fit, 0.005, 0.1).unwrap_err().to_string();
        assert!(
            told.contains("uncertain by 1.0 %, more than 0.5 %"),
            "{told}"
        );
        assert!(told.contains("--repeats"), "{told}");
        let drifting = Fit {
            drift_share: -0.2,
            ..fit
        };
        let told = judge(&drifting, 0.05, 0.1).unwrap_err().to_string();
        assert!(told.contains("changed by -20.0 %"), "{told}");
        let lost = times(-1.0).fit;
        let told = bace_api::told(judge(&lost, 0.05, 0.1).unwrap_err().as_ref());
        assert!(told.contains("lost in noise"), "{told}");
        for beyond in [
            Fit {
                residual_share: -0.2,
                ..fit
            },
            Fit {
                step_residual_share: 0.2,
                ..fit
            },
        ] {
            let told = judge(&beyond, 0.05, 0.1).unwrap_err().to_string();
            assert!(told.contains("20.0 % of what its parts"), "{told}");
            assert!(told.contains("more than 10.0 %"), "{told}");
            judge(&beyond, 0.05, 0.25).unwrap();
        }
    }

    #[test]
    fn times_are_kept_where_memory_is_not_known() {
        let wanted = Wanted {
            key: crate::profile::file::tests::key(2),
            models: vec!["small".to_owned()],
        };
        let times = times(0.001);
        let failed = Err(anyhow::anyhow!("ask bace-worker: it was killed"));
        let entry = entry(
            &wanted,
            &times,
            Err(anyhow::anyhow!("keep this set-up: it is lost in noise")),
            failed,
        );
        assert!(entry.memory.is_empty());
        assert_eq!(
            entry.memory_absent.as_deref(),
            Some("failed to ask bace-worker: it was killed")
        );
        assert_eq!(
            entry.set_up_absent.as_deref(),
            Some("failed to keep this set-up: it is lost in noise")
        );
        assert_eq!(entry.times().set_up, None);
    }

    #[test]
    fn entries_are_added_to_their_device_s_file() {
        let folder = tempfile::tempdir().unwrap();
        let device = times(0.001).device;
        for (model, sequences) in [("small", 2), ("small", 4), ("small", 2)] {
            let entry = crate::profile::file::tests::entry(model, sequences, 0.001);
            keep(folder.path(), &device, entry).unwrap();
        }
        let path = folder.path().join(file_name(&device));
        let file = ProfileFile::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(file.entries.len(), 2);
        let keys: Vec<ProfileKey> = file.entries.iter().map(Entry::key).collect();
        assert_eq!(keys[0].shape.sequences, 2);
    }

    #[test]
    fn what_nobody_could_read_again_leaves_the_file_as_it_is() {
        use crate::profile::file::tests::entry;

        let folder = tempfile::tempdir().unwrap();
        let device = times(0.001).device;
        let path = keep(folder.path(), &device, entry("small", 2, 0.001)).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let told = keep(folder.path(), &device, entry("other", 4, -1.0)).unwrap_err();
        assert!(
            told.to_string().contains("(other): a layer's forward"),
            "{told}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }
}
