//! A request in, an answer out.

use std::io::Read;

use anyhow::Context;
use bace_api::{ComputeRung, ProfileReply, ProfileRequest, ProfileTask};
use bace_stage::{Begin, Computer};
use bace_torch::{Device, Precision};

use super::subject::Workshop;
use super::{memory, set_up, times};
use crate::torch::Torch;

/// Longest request: a few numbers and a path.
const REQUEST_LIMIT: u64 = 64 << 10;

/// Measures what is asked for on `input`.
pub fn profile(input: impl Read) -> anyhow::Result<ProfileReply> {
    let mut text = String::new();
    let read = input.take(REQUEST_LIMIT).read_to_string(&mut text);
    read.context("read the request")?;
    let request: ProfileRequest =
        serde_json::from_str(&text).with_context(|| format!("understand the request `{text}`"))?;
    let device: Device = request.device.parse()?;
    let precision = match &request.precision {
        Some(name) => name.parse()?,
        None => Precision::usual(device),
    };
    let mut torch = Torch::new(device, precision);
    torch.set_up();
    let begin = Begin {
        compute: ComputeRung::Native,
        text: request.text.clone(),
    };
    torch.begin(&begin)?;
    let workshop = Workshop {
        torch: &torch,
        device,
        precision,
        request: &request,
    };
    Ok(match request.task {
        ProfileTask::Times { rounds } => {
            ProfileReply::Times(Box::new(times::measure(&workshop, rounds)?))
        }
        ProfileTask::Memory(task) => ProfileReply::Memory(memory::measure(&workshop, task)?),
        ProfileTask::SetUp { begins_with } => {
            ProfileReply::SetUp(set_up::measure(&workshop, begins_with)?)
        }
    })
}
