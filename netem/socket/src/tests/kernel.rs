//! Networks of real namespaces. Where this user may not make any, each test runs itself again in a user namespace; where
//! that is forbidden too, it fails, unless `BACE_WITHOUT_NAMESPACES=1` says that it is to be left out.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bace_netem::{
    Accounting, Congestion, LinkId, LinkSpec, NamespaceName, NetworkName, Owner, Place, Qdiscs,
    RateQdisc, RegionId, Route, TcPlan,
};
use tokio::sync::mpsc;

use super::support::{message, next_message, pattern, spec};
use crate::kernel::{
    KernelError, KernelNetwork, KernelSupport, Privilege, is_running, mark_of, namespaces,
    obtain_privilege, probe, refuse_without_root, remove,
};
use crate::{
    BufferPool, Endpoint, LinkCell, LinkSender, Profile, ReceiverConfig, ReceiverTask,
    RunAuthority, SenderConfig, Shaper, now_ns,
};

const EAST: RegionId = RegionId::new(0);
const WEST: RegionId = RegionId::new(1);
/// Of what the link gives: at most all, but for what its bucket held; and much less only where other programs keep this
/// machine's cores busy.
const SHARES: std::ops::Range<f64> = 0.3..1.15;
/// Set by `unshare` below.
const ANEW: &str = "BACE_IN_USER_NAMESPACE";

/// Runs `body` where it may make namespaces; `name` is the calling test's.
fn in_namespaces(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ANEW).is_some() {
        assert_eq!(obtain_privilege().unwrap(), Privilege::OwnUserNamespace);
        return body();
    }
    if refuse_without_root().is_ok() {
        return body();
    }
    if std::env::var_os("BACE_WITHOUT_NAMESPACES").is_some_and(|value| value == "1") {
        eprintln!("{name} was left out: BACE_WITHOUT_NAMESPACES=1");
        return;
    }
    run_again(name);
}

/// Runs the test `name` of this program in a user namespace.
fn run_again(name: &str) {
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args([&format!("tests::kernel::{name}"), "--exact", "--nocapture"])
        .env(ANEW, "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{name} needs network namespaces; BACE_WITHOUT_NAMESPACES=1 leaves it out: {output:?}"
    );
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("1 passed"), "{printed}");
}

/// A plan of two regions; `scenario` keeps tests apart.
fn plan(scenario: &str, there: LinkSpec, back: LinkSpec, rate: RateQdisc) -> TcPlan {
    let link = LinkId::new(EAST, WEST);
    let links = BTreeMap::from([(link, there), (link.reversed(), back)]);
    let qdiscs = Qdiscs { rate, netem: false };
    let regions = vec!["east".to_owned(), "west".to_owned()];
    TcPlan::new(name(scenario), regions, links, qdiscs).unwrap()
}

fn name(scenario: &str) -> NetworkName {
    NetworkName::new(scenario, Owner::Run(std::process::id()))
}

fn of(scenario: &str) -> Vec<NamespaceName> {
    let all = namespaces().unwrap().into_iter();
    all.filter(|found| found.network == name(scenario))
        .collect()
}

fn framed(mbps: f64) -> LinkSpec {
    let mut spec = spec(mbps, 0.0);
    spec.accounting = Accounting::Ethernet;
    spec
}

/// Payload bits per second of `bytes` over TCP from one place to the other, as the receiver sees them.
fn tcp_bps(network: &KernelNetwork, from: RegionId, to: RegionId, bytes: usize) -> f64 {
    let address = network.plan().address(Place::Region(to));
    thread::scope(|scope| {
        let (told, listening) = std::sync::mpsc::channel();
        let receiver = scope.spawn(move || {
            let _inside = network.enter(Place::Region(to)).unwrap();
            let listener = TcpListener::bind((address, 0)).unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let mut buffer = vec![0; 64 * 1024];
            let mut first = None;
            let (mut all, mut counted) = (0, 0);
            while all < bytes {
                let read = stream.read(&mut buffer).unwrap();
                assert!(read > 0, "the sender sends all of it");
                all += read;
                // What the bucket held is not what the link carries.
                match first {
                    None if all > bytes / 8 => first = Some(Instant::now()),
                    None => {}
                    Some(_) => counted += read,
                }
            }
            counted as f64 * 8.0 / first.unwrap().elapsed().as_secs_f64()
        });
        scope.spawn(move || {
            let _inside = network.enter(Place::Region(from)).unwrap();
            let to = listening.recv().unwrap();
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap();
            stream.write_all(&vec![7; bytes]).unwrap();
        });
        receiver.join().unwrap()
    })
}

#[test]
fn each_direction_has_its_rate() {
    in_namespaces("each_direction_has_its_rate", || {
        let support = probe(&name("rates")).unwrap();
        assert!(support.tbf || support.htb, "{support:?}");
        for (rate, has) in [(RateQdisc::Tbf, support.tbf), (RateQdisc::Htb, support.htb)] {
            if !has {
                eprintln!("{} is not tested: this kernel has none", rate.name());
                continue;
            }
            let plan = plan("rates", framed(40.0), framed(120.0), rate);
            let network = KernelNetwork::up(plan, || None).unwrap();
            for (from, to, mbps) in [(EAST, WEST, 40.0), (WEST, EAST, 120.0)] {
                let bytes = (mbps * 1e6 / 8.0 * 0.4) as usize;
                // 1448 payload bytes of TCP in frames of 1514.
                let share = tcp_bps(&network, from, to, bytes) / (mbps * 1e6 * 1448.0 / 1514.0);
                assert!(SHARES.contains(&share), "{}: {share}", rate.name());
            }
            network.down().unwrap();
        }
        assert_eq!(of("rates"), []);
    });
}

#[test]
fn a_link_changes_while_it_is_used() {
    in_namespaces("a_link_changes_while_it_is_used", || {
        for rate in [RateQdisc::Tbf, RateQdisc::Htb] {
            let start = plan("changes", framed(30.0), framed(30.0), rate);
            let mut network = KernelNetwork::up(start, || None).unwrap();
            let link = LinkId::new(EAST, WEST);
            let down = framed(0.0);
            assert!(reaches(&network));
            network.change(link, down).unwrap();
            assert!(!reaches(&network));
            network.change(link, down).unwrap();
            for mbps in [30.0, 150.0, 60.0] {
                network.change(link, framed(mbps)).unwrap();
                assert!(reaches(&network));
                let bytes = (mbps * 1e6 / 8.0 * 0.3) as usize;
                let share = tcp_bps(&network, EAST, WEST, bytes) / (mbps * 1e6 * 1448.0 / 1514.0);
                assert!(SHARES.contains(&share), "{mbps}: {share}");
            }
        }
        assert_eq!(of("changes"), []);
    });
}

/// Whether a datagram from east arrives in west.
fn reaches(network: &KernelNetwork) -> bool {
    let socket = |region| {
        let _inside = network.enter(Place::Region(region)).unwrap();
        UdpSocket::bind((network.plan().address(Place::Region(region)), 0)).unwrap()
    };
    let (east, west) = (socket(EAST), socket(WEST));
    west.set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    // Where nothing answers, the kernel tells the sender so in time.
    let _ = east.send_to(b"hello", west.local_addr().unwrap());
    west.recv(&mut [0; 8]).is_ok()
}

#[test]
fn tensors_get_the_rate_and_are_held_for_the_delay() {
    const DELAY_MS: f64 = 60.0;
    const BYTES: usize = 4 << 20;
    in_namespaces("tensors_get_the_rate_and_are_held_for_the_delay", || {
        let link = spec(100.0, DELAY_MS);
        let plan = plan("tensors", link, link, RateQdisc::Tbf);
        let network = KernelNetwork::up(plan, || None).unwrap();
        let times = quic_times(&network, link, BYTES);
        let ideal_s = BYTES as f64 * 8.0 / 100e6;
        // Never sooner than the link gives it; how much later is for the machine to say, whose cores others use too.
        let first_s = times[0];
        assert!(first_s > DELAY_MS / 1e3 + 0.9 * ideal_s, "{times:?}");
        let last_s = times[times.len() - 1];
        let ideal_last_s = DELAY_MS / 1e3 + times.len() as f64 * ideal_s;
        assert!((0.95..4.0).contains(&(last_s / ideal_last_s)), "{times:?}");
    });
}

/// Seconds from the sending of three messages at once to the delivery of each.
fn quic_times(network: &KernelNetwork, link: LinkSpec, bytes: usize) -> Vec<f64> {
    let authority = RunAuthority::new().unwrap();
    let [sender, receiver] =
        ["w0.run.local", "w1.run.local"].map(|name| authority.issue(name).unwrap());
    let address = network.plan().address(Place::Region(WEST));
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let (told, listening) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let received = scope.spawn(move || {
            let _inside = network.enter(Place::Region(WEST)).unwrap();
            runtime().block_on(async {
                let any = SocketAddr::from((address, 0));
                let endpoint = Endpoint::bind(any, &receiver, Profile::data()).unwrap();
                told.send(endpoint.local_addr().unwrap()).unwrap();
                let pending = endpoint.accept().await.unwrap();
                tune(&endpoint, pending.address(), link);
                let connection = pending.establish().await.unwrap();
                let (out, mut received) = mpsc::channel(8);
                let config = ReceiverConfig {
                    hold: Some(LinkCell::private(&link)),
                    ..ReceiverConfig::default()
                };
                let pool = BufferPool::default();
                let _task = ReceiverTask::spawn(&connection, &pool, config, out).unwrap();
                let mut times = Vec::new();
                for _ in 0..3 {
                    let timing = next_message(&mut received).await.timing;
                    let held_ns = timing.delivered_ns - timing.arrived_ns;
                    assert!(held_ns >= link.delay.nanos(), "{timing:?}");
                    times.push((timing.delivered_ns - timing.ready_ns) as f64 / 1e9);
                }
                endpoint.close("all is here").await;
                times
            })
        });
        scope.spawn(move || {
            let _inside = network.enter(Place::Region(EAST)).unwrap();
            runtime().block_on(async {
                let own = network.plan().address(Place::Region(EAST));
                let own = SocketAddr::from((own, 0));
                let endpoint = Endpoint::bind(own, &sender, Profile::data()).unwrap();
                let to = listening.recv().unwrap();
                tune(&endpoint, to, link);
                let connection = endpoint.connect(to, "w1.run.local").await.unwrap();
                let config = SenderConfig::default();
                let (queue, _task) =
                    LinkSender::spawn(&connection, Shaper::Below, &link, config).unwrap();
                let payload = pattern(bytes);
                let ready_ns = now_ns();
                for _ in 0..3 {
                    let mut message = message(payload.clone());
                    message.ready_ns = ready_ns;
                    queue.send(message).await.unwrap();
                }
                connection.closed().await
            })
        });
        received.join().unwrap()
    })
}

/// As a worker does where the kernel cannot delay.
fn tune(endpoint: &Endpoint, peer: SocketAddr, link: LinkSpec) {
    let (there, back) = (link, link);
    let route = Route { there, back }.without_delay();
    endpoint.tune(peer, route, Congestion::Fixed);
}

#[test]
fn what_is_there_already_stays_and_what_was_made_is_taken_back() {
    in_namespaces(
        "what_is_there_already_stays_and_what_was_made_is_taken_back",
        || {
            let make = || plan("twice", framed(10.0), framed(10.0), RateQdisc::Tbf);
            let first = KernelNetwork::up(make(), || None).unwrap();
            let hub = NamespaceName {
                network: name("twice"),
                place: Place::Hub,
            };
            assert_eq!(mark_of(&hub).unwrap(), Some(make().mark()));
            // The first thing that it makes is there.
            let error = KernelNetwork::up(make(), || None).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("run `ip netns add {hub}`")),
                "{error}"
            );
            assert!(error.contains("File exists"), "{error}");
            assert_eq!(of("twice").len(), 3);
            assert!(reaches(&first));
            // Now one of the middle is there: what came before it goes again.
            let names = of("twice");
            let west = names.iter().find(|name| name.place == Place::Region(WEST));
            let others = names.iter().filter(|name| Some(*name) != west);
            first.keep();
            remove(others).unwrap();
            KernelNetwork::up(make(), || None).unwrap_err();
            assert_eq!(of("twice").iter().collect::<Vec<_>>(), [west.unwrap()]);
            assert!(mark_of(&hub).is_err());
            remove(west).unwrap();
            assert!(matches!(remove(west), Err(KernelError::Command { .. })));
            assert_eq!(of("twice"), []);
        },
    );
}

#[test]
fn a_probe_leaves_nothing_behind() {
    in_namespaces("a_probe_leaves_nothing_behind", || {
        let found = probe(&name("probe")).unwrap();
        // In either case the answer is the kernel's own.
        let modules = ["tbf", "htb", "netem"].map(kind_is_known);
        assert_eq!([found.tbf, found.htb, found.netem], modules);
        assert_eq!(of("probe"), []);
    });
}

/// Whether tc, asked directly, puts a discipline on loopback of an empty namespace.
fn kind_is_known(kind: &str) -> bool {
    let options = match kind {
        "tbf" => "rate 1mbit burst 2000 limit 5000",
        "htb" => "default 2",
        _ => "delay 1ms",
    };
    let script = format!("tc qdisc add dev lo root {kind} {options}");
    let mut unshare = Command::new("unshare");
    let output = unshare.args(["--net", "sh", "-c", &script]).output();
    output.unwrap().status.success()
}

#[test]
fn rate_disciplines_are_chosen_and_missed() {
    let support = |tbf, htb, netem| KernelSupport { tbf, htb, netem }.qdiscs();
    let found = |rate, netem| Qdiscs { rate, netem };
    assert_eq!(
        support(true, true, true).unwrap(),
        found(RateQdisc::Tbf, true)
    );
    assert_eq!(
        support(false, true, false).unwrap(),
        found(RateQdisc::Htb, false)
    );
    let missed = support(false, false, true).unwrap_err().to_string();
    assert!(
        missed.contains("neither of the queueing disciplines tbf and htb"),
        "{missed}"
    );
}

#[test]
fn networks_put_up_by_hand_and_of_the_dead_are_nobodys() {
    assert!(!is_running(Owner::Kept));
    assert!(!is_running(Owner::Run(u32::MAX)));
    // The first process of this system is another program.
    assert!(!is_running(Owner::Run(1)));
}
