//! Several processes on one link: what they get together, and how equally.

use std::path::Path;
use std::thread;
use std::time::Duration;

use bace_netem::{BitRate, Delay, LinkSpec, chunk_bytes};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::link::{Link, Way, message};
use super::peer::{PeerReport, PeerTask};
use super::processes::{Peer, PeerProgram, unexpected};
use super::stats::jain;
use crate::SocketError;
use crate::cell::CellTable;
use crate::runtime::NetThread;
use crate::timer::now_ns;

/// What each process needs to start and to connect, on a machine where others start too.
const START_EACH: Duration = Duration::from_millis(150);
/// From the first message to the window in which bytes count.
const SETTLE: Duration = Duration::from_millis(500);

/// When a process uses the link and when its bytes count; ns of [`now_ns`], which all processes of a host share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharePlan {
    /// Its first message is ready.
    pub start_ns: u64,
    /// The window begins.
    pub from_ns: u64,
    /// The window ends, and the process with it.
    pub until_ns: u64,
}

/// What processes got of one link.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shares {
    /// Bytes reserved on the link's clock during the window, over what the link carries in it.
    pub reserved: f64,
    /// Bytes handed up during the window, over the same.
    pub delivered: f64,
    /// Jain's index of what each process was handed.
    pub jain: f64,
}

/// Lets `processes` processes, each with a sender and a receiver of its own, fill one link for `window`.
pub(super) fn measure_shares(
    program: &PeerProgram,
    rate: BitRate,
    processes: u32,
    window: Duration,
) -> Result<Shares, SocketError> {
    let (table, path) = CellTable::create(1)?;
    let cell = table.cell(0)?;
    let spec = LinkSpec::new(rate, Delay::ZERO);
    cell.set((&spec).into(), now_ns());
    let nanos = |duration: Duration| duration.as_nanos() as u64;
    let start_ns = now_ns() + nanos(START_EACH * (processes + 1));
    let from_ns = start_ns + nanos(SETTLE);
    let plan = SharePlan {
        start_ns,
        from_ns,
        until_ns: from_ns + nanos(window),
    };
    let task = PeerTask::Share {
        cells: path,
        rate,
        plan,
    };
    let runtime = NetThread::start("bench")?;
    let program = program.clone();
    let peers = runtime.run(async move {
        let mut peers = Vec::new();
        for _ in 0..processes {
            peers.push(Peer::start(&program, &task).await?);
        }
        Ok::<_, SocketError>(peers)
    })??;
    let sample_at = |at_ns: u64| {
        thread::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns())));
        (now_ns(), cell.counters().charged_bytes)
    };
    let (begin_ns, before) = sample_at(plan.from_ns);
    let (end_ns, after) = sample_at(plan.until_ns);
    let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
    let reserved = BitRate::carrying(after - before, seconds(begin_ns, end_ns));
    let got = runtime.run(async move {
        let mut got = Vec::new();
        for mut peer in peers {
            match peer.report().await? {
                PeerReport::Shared { bytes } => got.push(bytes),
                other => return Err(unexpected(&other)),
            }
            peer.end().await?;
        }
        Ok(got)
    })??;
    let delivered = BitRate::carrying(got.iter().sum(), seconds(plan.from_ns, plan.until_ns));
    let got: Vec<f64> = got.into_iter().map(|bytes| bytes as f64).collect();
    Ok(Shares {
        reserved: reserved.bps() / rate.bps(),
        delivered: delivered.bps() / rate.bps(),
        jain: jain(&got).ok_or(SocketError::NothingCarried)?,
    })
}

/// Fills the first link of `cells` until the plan is over; payload bytes that were handed up within the window.
pub(super) fn take_part(cells: &Path, rate: BitRate, plan: SharePlan) -> Result<u64, SocketError> {
    let cell = CellTable::open(cells)?.cell(0)?;
    // One chunk a message, so that what is handed up is counted in chunks.
    let bytes = chunk_bytes(rate) as usize;
    let mut link = Link::open(&LinkSpec::new(rate, Delay::ZERO), Way::Clock(cell), bytes)?;
    let sender = link.sender();
    // Not before now: a process that starts late would claim link time that has passed.
    let ready_ns = plan.start_ns.max(now_ns());
    // Ends when the link is dropped.
    thread::spawn(move || {
        let payload = Bytes::from(vec![0x5a; bytes]);
        while sender
            .blocking_send(message(payload.clone(), ready_ns))
            .is_ok()
        {}
    });
    let mut got = 0;
    loop {
        let taken = link.receive()?;
        match taken.timing.delivered_ns {
            delivered_ns if delivered_ns >= plan.until_ns => return Ok(got),
            delivered_ns if delivered_ns >= plan.from_ns => got += taken.payload.len() as u64,
            _ => {}
        }
    }
}
