//! What a lease costs that nobody else wants: it stands in front of every action of every worker.

use std::hint::black_box;

use bace_lease::{LeaseTable, Seat, SeatDevice};
use bace_socket::SharedMemory;
use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for seats in [1, 6, 64, 256] {
        let table = table(seats);
        let mut sitting: Vec<Seat> = (0..seats)
            .map(|seat| table.take(seat, &device()).expect("all seats are vacant"))
            .collect();
        criterion.bench_function(&format!("lease, {seats} seats"), |bench| {
            bench.iter(|| {
                black_box(
                    sitting[0]
                        .acquire(0)
                        .expect("nobody clears a seat here")
                        .release(),
                )
            });
        });
    }
    criterion.final_summary();
}

fn table(seats: usize) -> LeaseTable {
    let (memory, _path) =
        SharedMemory::create(&[LeaseTable::section(seats)]).expect("there is memory");
    LeaseTable::of(&memory).expect("it was made for leases")
}

fn device() -> SeatDevice {
    SeatDevice {
        index: 0,
        name: "cpu".to_owned(),
        slots: 2,
    }
}
