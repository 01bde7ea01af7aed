//! Layers cut into stages of unequal speed.

use std::hint::black_box;
use std::time::Duration;

use bace_models::{GpuType, Work, Workload};
use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    let workload = Workload {
        layers: 200,
        work: Work::Operations {
            layer: 7.0e12,
            head: 8.6e12,
        },
    };
    let types: Vec<GpuType> = (0..100)
        .map(|stage: u32| GpuType {
            flops: 1e14 * (1.0 + f64::from(stage * 37 % 11) / 7.0),
            mfu: 0.4,
            memory_bytes: 48_000_000_000,
            busy_w: 300.0,
            idle_w: 22.0,
        })
        .collect();
    let gpus: Vec<&GpuType> = types.iter().collect();
    let alike = vec![&types[0]; 100];
    let mut group = criterion.benchmark_group("split of 200 layers into 100 stages");
    for (name, gpus) in [("unequal speeds", &gpus), ("equal speeds", &alike)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(&workload).split(black_box(gpus)));
        });
    }
    group.finish();
    criterion.final_summary();
}
