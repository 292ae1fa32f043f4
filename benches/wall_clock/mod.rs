//! Cases under criterion: wall time per operation.
//!
//! In: the name of a path; the command line is criterion's. Out: criterion's report. Where a call is
//! many operations, the time reported is that of one.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};

use crate::cases;

/// Times every case of `path`.
pub(crate) fn measure(path: &str) {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group(path);
    for case in cases::all() {
        let Some(variant) = case.name.strip_prefix(path).and_then(|rest| rest.strip_prefix('/'))
        else {
            continue;
        };
        if case.bytes > 0 {
            group.throughput(Throughput::Bytes(case.bytes as u64));
        } else {
            group.throughput(Throughput::Elements(1));
        }
        group.bench_function(variant, |bencher| {
            let mut call = (case.prepare)();
            bencher.iter_custom(|operations| {
                let calls = operations.div_ceil(case.operations);
                let start = Instant::now();
                for _ in 0..calls {
                    call();
                }
                share(start.elapsed(), operations, calls * case.operations)
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

/// What `part` of `whole` operations took of `elapsed`.
fn share(elapsed: Duration, part: u64, whole: u64) -> Duration {
    let nanoseconds = elapsed.as_nanos() * u128::from(part) / u128::from(whole);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
