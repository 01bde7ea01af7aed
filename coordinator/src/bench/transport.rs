//! `bace bench transport`: what QUIC carries over loopback, beside TCP.

use bace_socket::bench::{
    Carrier, CheckedMessage, Layout, TransportPlan, TransportRow, TransportRun, Variant,
    check_messages, measure_transport, transport_figures,
};
use serde_json::{Value, json};

use super::figures::{all_met, goals_table, table};
use super::{peer, progress};
use crate::cli::BenchTransportArgs;
use crate::machine;
use crate::output::say;

/// Messages that are compared byte by byte.
const CHECKED_BYTES: [usize; 7] = [1, 1 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20, 1 << 30];
/// Memory that a checked message takes: at the sender, at the receiver, and on its way.
const MEMORY_SHARE: u64 = 3;

/// Measures all carriers, compares messages of all sizes, and holds the ratios against their goals.
pub fn transport(args: &BenchTransportArgs) -> anyhow::Result<bool> {
    let program = peer::program()?;
    let line = progress::spinner();
    let message_bytes = (args.message_mib as usize) << 20;
    let plan = TransportPlan::new(args.rounds, message_bytes, args.gigabytes);
    let rows = measure_transport(&program, plan, |round, variant| {
        let round = round + 1;
        line.set_message(format!("{} ({round} of {})", words(variant), args.rounds));
    })?;
    let (sizes, left_out) = checked_sizes(args);
    line.set_message("messages of all sizes");
    let messages = check_messages(&program, &sizes)?;
    line.finish_and_clear();
    let figures = transport_figures(&rows);
    if args.json {
        let rows: Vec<_> = rows.iter().map(row_json).collect();
        let all = json!({
            "machine": machine::describe(),
            "message_bytes": message_bytes,
            "messages": plan.plan.messages,
            "rows": rows,
            "figures": figures,
            "intact": messages,
            "not_tried": left_out.map(|(bytes, reason)| json!({"bytes": bytes, "reason": reason})),
            "met": all_met(&figures),
        });
        say!("{all}");
        return Ok(all_met(&figures));
    }
    say!(
        "{} messages of {} MiB over loopback on {}",
        plan.plan.messages,
        args.message_mib,
        machine::describe()
    );
    say!(
        "medians of {} rounds, all carriers in each; GB = 10^9 bytes\n",
        args.rounds
    );
    say!("{}\n", carriers_table(&rows));
    say!("{}\n", goals_table(&figures));
    say!("arrived byte for byte: {}", sizes_in_words(&messages));
    if let Some((bytes, reason)) = left_out {
        say!(
            "not tried: {} and more: {reason}",
            size_in_words(bytes as u64)
        );
    }
    Ok(all_met(&figures))
}

/// The sizes to compare, and from which on they are left out and why.
fn checked_sizes(args: &BenchTransportArgs) -> (Vec<usize>, Option<(usize, String)>) {
    let free = machine::available_memory_bytes();
    let mut sizes = CHECKED_BYTES.to_vec();
    let too_large = |bytes: usize| {
        if bytes > (args.largest_mib as usize) << 20 {
            return Some(format!("--largest-mib is {}", args.largest_mib));
        }
        let needed = MEMORY_SHARE * bytes as u64;
        let free = free.filter(|&free| free < needed)?;
        Some(format!(
            "it takes {} MB of memory, {} MB are free",
            needed / 1_000_000,
            free / 1_000_000
        ))
    };
    let first = sizes
        .iter()
        .enumerate()
        .find_map(|(at, &bytes)| Some((at, bytes, too_large(bytes)?)));
    let left_out = first.map(|(at, bytes, reason)| {
        sizes.truncate(at);
        (bytes, reason)
    });
    (sizes, left_out)
}

fn carriers_table(rows: &[TransportRow]) -> comfy_table::Table {
    let header = [
        "carrier",
        "Gbit/s",
        "/ TCP",
        "CPU s/GB send",
        "receive",
        "cores busy",
        "packets lost",
    ];
    let mut table = table(&header, 1);
    let tcp = rows.iter().find(|row| row.variant.carrier == Carrier::Tcp);
    for row in rows {
        let of = |of: fn(&TransportRun) -> Option<f64>, digits: usize| {
            row.median(of)
                .map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let ratio = tcp.and_then(|tcp| bace_socket::bench::median(&row.ratios(tcp)));
        table.add_row([
            words(row.variant),
            of(|run| Some(run.gbps), 2),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
            of(|run| run.sender_cpu_s_per_gb, 2),
            of(|run| run.receiver_cpu_s_per_gb, 2),
            of(|run| Some(run.busy_cores), 2),
            of(|run| run.lost_packets.map(|count| count as f64), 0),
        ]);
    }
    table
}

fn row_json(row: &TransportRow) -> Value {
    json!({
        "carrier": row.variant.carrier,
        "layout": row.variant.layout,
        "median_gbps": row.median(|run| Some(run.gbps)),
        "runs": row.runs,
    })
}

fn words(variant: Variant) -> String {
    let carrier = match variant.carrier {
        Carrier::Tcp => "TCP into one buffer",
        Carrier::QuicDropped => "QUIC, dropped",
        Carrier::QuicPooled => "QUIC into pooled buffers",
        Carrier::QuicFresh => "QUIC into new buffers",
        Carrier::QuicStock => "stock quinn, dropped",
    };
    match variant.layout {
        Layout::Processes => carrier.to_owned(),
        Layout::Threads => format!("{carrier}, two threads"),
    }
}

fn sizes_in_words(messages: &[CheckedMessage]) -> String {
    let words: Vec<_> = messages
        .iter()
        .map(|message| {
            let size = size_in_words(message.bytes);
            format!("{size} in {:.2} ms", message.seconds * 1e3)
        })
        .collect();
    words.join(", ")
}

fn size_in_words(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}
