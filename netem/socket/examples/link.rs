//! Measures how true shaped links of several rates and delays are on this host.

use bace_netem::{BitRate, Delay, LinkSpec};
use bace_socket::{SocketError, measure_link};

fn main() -> Result<(), SocketError> {
    println!("  Mbit/s   ms    ideal s  measured s  error ms  error %  late us");
    for mbps in [1_000.0, 100.0, 10.0] {
        for delay_ms in [0.0, 40.0] {
            let rate = BitRate::from_bps(mbps * 1e6).expect("a rate of the list");
            let delay = Delay::from_seconds(delay_ms / 1e3).expect("a delay of the list");
            measure_link(&LinkSpec::new(rate, delay), 16 << 20, 3, |one| {
                println!(
                    "{mbps:8} {delay_ms:4} {:10.6} {:11.6} {:9.3} {:8.4} {:8}",
                    one.ideal_s,
                    one.measured_s,
                    one.error_s() * 1e3,
                    one.error_s() / one.ideal_s * 100.0,
                    one.late_us,
                );
            })?;
        }
    }
    Ok(())
}
