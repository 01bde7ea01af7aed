//! Messages survive the codec, and damaged ones end in an error or in a message that survives it too: whatever a peer sends,
//! a process neither panics nor takes more memory than a message may have.

use std::net::SocketAddr;

use bace_api::*;
use bace_netem::{
    BitRate, ClockEstimate, Congestion, Delay, Departure, Jitter, LinkId, LinkSpec, RegionId,
    Timing,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What happens to the bytes of a message on its way.
#[derive(Debug, Clone)]
enum Damage {
    Overwrite(prop::sample::Index, Vec<u8>),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>();
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..4),
        // The codec's marks of longer integers, and the lengths that follow them.
        (
            251u8..=254,
            prop::collection::vec(prop_oneof![Just(0u8), Just(0x7f), Just(0xff)], 0..9)
        )
            .prop_map(|(mark, length)| [vec![mark], length].concat()),
    ];
    prop_oneof![
        3 => (place.clone(), bytes.clone()).prop_map(|(at, bytes)| Damage::Overwrite(at, bytes)),
        2 => (place.clone(), bytes).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (place.clone(), 1usize..20).prop_map(|(at, count)| Damage::Remove(at, count)),
        1 => (place.clone(), 1usize..200).prop_map(|(at, count)| Damage::Repeat(at, count)),
        1 => place.prop_map(Damage::Cut),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |at: &prop::sample::Index| at.index(bytes.len() + 1);
        match self {
            Self::Overwrite(at, new) => {
                let at = place(at);
                let end = (at + new.len()).min(bytes.len());
                bytes.splice(at..end, new.iter().copied());
            }
            Self::Insert(at, new) => {
                let at = place(at);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = place(at);
                let end = (at + count).min(bytes.len());
                bytes.drain(at..end);
            }
            Self::Repeat(at, count) => {
                let at = place(at);
                let end = (at + count).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(end..end, again);
            }
            Self::Cut(at) => bytes.truncate(place(at)),
        }
    }
}

fn neighbour(address: &str) -> Neighbour {
    let mut link = LinkSpec::new(
        BitRate::from_bps(5e8).expect("a rate"),
        Delay::from_seconds(0.038).expect("a delay"),
    );
    link.jitter = Jitter::Normal(Delay::from_seconds(0.001).expect("a delay"));
    link.queue_bytes = Some(1 << 20);
    Neighbour {
        worker: WorkerId(3),
        address: address.parse::<SocketAddr>().expect("an address"),
        link_id: LinkId::new(RegionId::new(0), RegionId::new(1)),
        link,
        back: link,
        clock: Some(7),
        clock_back: None,
        is_elsewhere: true,
    }
}

fn timing() -> Timing {
    Timing {
        ready_ns: 1,
        departure: Some(Departure {
            left_ns: 299,
            queued_ns: u64::MAX,
        }),
        deliver_at_ns: 300,
        arrived_ns: 70_000,
        delivered_ns: u64::MAX,
    }
}

fn prepare() -> Prepare {
    let model = bace_models::catalogue::model("qwen2.5-14b").expect("it is built in");
    let shape = bace_models::MicroBatchShape {
        sequences: 4,
        sequence: 128,
        bytes_per_element: 2,
    };
    let micro_batches = (0..3).map(MicroBatch);
    let program = micro_batches.flat_map(|m| {
        [
            Action::ReceiveActivation(m),
            Action::Forward(m),
            Action::Backward(m),
            Action::SendGradient(m),
        ]
    });
    Prepare {
        id: JobId(1),
        attempt: Attempt(2),
        job: Job {
            name: "wide".to_owned(),
            model_name: "qwen2.5-14b".to_owned(),
            model,
            arrival_s: 0.5,
            iterations: 40,
            micro_batches: 3,
            shape,
            schedule: Schedule::OneFOneB,
            learning_rate: 1e-3,
            scale_model: None,
        },
        boundary_stands_for_bytes: Some(7 << 32),
        seed: u64::MAX,
        stage: StageIndex(1),
        stages: 2,
        layers: 24..48,
        program: program.chain([Action::Step]).collect(),
        previous: Some(neighbour("10.0.0.1:4433")),
        next: Some(neighbour("[fd00::1]:4433")),
        compute: ComputePlan {
            rung: ComputeRung::Paced,
            forward_s: 0.01,
            backward_s: 0.02,
        },
        tells_actions: true,
    }
}

fn to_worker() -> Vec<ToWorker> {
    vec![
        ToWorker::Welcome {
            worker: WorkerId(300),
            memory: HostMemory::At("/proc/12/fd/3".into()),
            lease: Some(DeviceLease {
                device: 1,
                name: "cuda:0".to_owned(),
                slots: 2,
            }),
            is_clock_probed: true,
            receivers_hold: false,
            compute: ComputeRung::Modelled,
            network: NetworkRung::Packet,
            congestion: Congestion::Cubic,
            text: None,
        },
        ToWorker::Refused("no seat is left".to_owned()),
        ToWorker::Prepare(Box::new(prepare())),
        ToWorker::Start(JobId(0), Attempt(70_000)),
        ToWorker::Release(JobId(u32::MAX), Attempt(0)),
        ToWorker::SetLinks(vec![LinkChange {
            clock: 7,
            rate: BitRate::ZERO,
            delay: Delay::ZERO,
        }]),
        ToWorker::Measure(Box::new(Measure {
            id: MeasurementId(3),
            probe: Probe::Together,
            role: MeasureRole::Receive,
            peer: neighbour("10.0.0.1:4433"),
            seed: 7,
        })),
        ToWorker::EndMeasuring(MeasurementId(3)),
        ToWorker::Shutdown,
    ]
}

fn from_worker() -> Vec<FromWorker> {
    let sent = TransferSummary {
        messages: 96,
        bytes: 1 << 40,
        late_arrivals: 2,
        worst_late_s: 0.002,
    };
    vec![
        FromWorker::Hello {
            protocol: PROTOCOL_VERSION,
            region: "eu-west".to_owned(),
            address: "127.0.0.1:65535".parse().expect("an address"),
            host_id: "host".to_owned(),
            pid: 4_000_000,
            device: WorkerDevice {
                name: "cpu".to_owned(),
                words: "CPU".to_owned(),
                slots: 4,
            },
        },
        FromWorker::HostMemoryMade {
            path: "/proc/12/fd/3".into(),
        },
        FromWorker::Measured {
            id: MeasurementId(3),
            timings: vec![timing(); 3],
        },
        FromWorker::Ready {
            text_hash: Some("00ff".to_owned()),
        },
        FromWorker::Prepared {
            job: JobId(1),
            attempt: Attempt(0),
            parameters: u64::MAX,
            set_up: SetUpReport {
                connect_s: 0.003,
                load_s: f64::MIN_POSITIVE,
                lease_wait_s: Some(0.0),
                rehearse_s: f64::MAX,
            },
            next_clock: Some(clock()),
        },
        FromWorker::Iteration(IterationReport {
            job: JobId(1),
            attempt: Attempt(0),
            stage: StageIndex(3),
            is_last_stage: true,
            iteration: Iteration(7),
            begin_ns: 1,
            end_ns: u64::MAX,
            times: StageTimes::default(),
            spans: vec![
                ActionReport {
                    action: Action::ReceiveActivation(MicroBatch(300)),
                    from_ns: 1,
                    to_ns: u64::MAX,
                    lease_wait_ns: Some(3),
                    excess_ns: None,
                    message: Some(timing()),
                };
                2
            ],
            loss: Some(2.5),
            device_s: Some(0.25),
            lease_wait_s: Some(0.5),
            actions: Some(16),
            overruns: 1,
            worst_overrun_s: 0.1,
            overrun_s: 0.1,
            scale_without_overrun: Some(0.75),
        }),
        FromWorker::Finished(Box::new(StageFinished {
            job: JobId(1),
            attempt: Attempt(0),
            stage: StageIndex(0),
            previous: None,
            next: Some(sent),
            previous_datagrams: None,
            next_datagrams: Some(DatagramSummary {
                sent: 389,
                worst_late_s: 0.002,
                ..DatagramSummary::default()
            }),
            next_clock: None,
        })),
        FromWorker::Released {
            job: JobId(1),
            attempt: Attempt(0),
            weights: vec![("embedding".to_owned(), "ab".to_owned()); 3],
        },
        FromWorker::Failed {
            job: JobId(1),
            attempt: Attempt(0),
            reason: "stage 0 cannot reach its neighbours".to_owned(),
        },
    ]
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
    let bytes = encode::<CONTROL_LIMIT>(message).expect("it fits");
    assert_eq!(
        &decode::<CONTROL_LIMIT, T>(&bytes).expect("it was just encoded"),
        message
    );
}

/// Damaged or not, what can be read can be written and read again.
fn reads_or_refuses<const LIMIT: usize, T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(read) = decode::<LIMIT, T>(bytes) else {
        return;
    };
    let written = encode::<CONTROL_LIMIT>(&read).expect("it was read");
    let again = decode::<CONTROL_LIMIT, T>(&written).expect("it was just encoded");
    // As bytes: a float may have become no number.
    assert_eq!(
        encode::<CONTROL_LIMIT>(&again).expect("it was read"),
        written
    );
}

#[test]
fn every_message_survives() {
    to_worker().iter().for_each(survives);
    from_worker().iter().for_each(survives);
    survives(&hello());
    survives(&header());
}

fn hello() -> PeerHello {
    PeerHello {
        protocol: PROTOCOL_VERSION,
        purpose: Purpose::Stage {
            job: JobId(5),
            attempt: Attempt(1),
            stage: StageIndex(300),
        },
    }
}

fn clock() -> ClockEstimate {
    ClockEstimate {
        offset_ns: i64::MIN,
        uncertainty_ns: 50_000,
        latency_ns: 1,
    }
}

fn header() -> TensorHeader {
    TensorHeader {
        tensor: TensorId {
            iteration: Iteration(70_000),
            kind: TensorKind::Gradient,
            micro_batch: MicroBatch(9),
        },
        shape: [4, 128, u32::MAX],
        element: Element::Bf16,
    }
}

#[test]
fn an_announced_length_is_not_believed() {
    // The variant `Refused`, and a text of 2^64 - 1 bytes; then one of 2^40 in front of a few.
    for length in [u64::MAX, 1 << 40] {
        let bytes = [&[1, 253][..], &length.to_le_bytes(), b"few"].concat();
        assert!(decode::<CONTROL_LIMIT, ToWorker>(&bytes).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_messages_are_refused_or_are_messages(
        which: prop::sample::Index,
        damages in prop::collection::vec(damage(), 1..5),
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            damages.iter().for_each(|damage| damage.apply(&mut bytes));
            bytes
        };
        let encoded = encode::<CONTROL_LIMIT>(which.get(&to_worker())).unwrap();
        reads_or_refuses::<CONTROL_LIMIT, ToWorker>(&damaged(encoded));
        let encoded = encode::<CONTROL_LIMIT>(which.get(&from_worker())).unwrap();
        reads_or_refuses::<CONTROL_LIMIT, FromWorker>(&damaged(encoded));
        reads_or_refuses::<HEADER_LIMIT, PeerHello>(&damaged(encode::<HEADER_LIMIT>(&hello()).unwrap()));
        reads_or_refuses::<HEADER_LIMIT, TensorHeader>(&damaged(encode::<HEADER_LIMIT>(&header()).unwrap()));
    }

    #[test]
    fn any_bytes_are_refused_or_are_messages(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        reads_or_refuses::<CONTROL_LIMIT, ToWorker>(&bytes);
        reads_or_refuses::<CONTROL_LIMIT, FromWorker>(&bytes);
        reads_or_refuses::<HEADER_LIMIT, PeerHello>(&bytes);
        reads_or_refuses::<HEADER_LIMIT, TensorHeader>(&bytes);
    }
}
