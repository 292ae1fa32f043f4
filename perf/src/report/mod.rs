//! The report: one HTML file per record, drawn by us, to be looked at by a person.
//!
//! In: a JSON record. Out: a page with strips, bars and curves, that needs nothing else and fetches
//! nothing. Not here: measuring, and judging (`claims.rs`).

mod cross_shard;
mod crowds;
mod echo;
mod others;
mod page;
mod plots;
mod svg;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::record::Surroundings;

/// Reads `record` and writes the page about it.
pub(crate) fn write(record: &Path, output: &Path) -> Result<()> {
    let text = fs::read_to_string(record).with_context(|| record.display().to_string())?;
    let page = page(&text).with_context(|| record.display().to_string())?;
    fs::write(output, page).with_context(|| output.display().to_string())
}

fn page(record: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Record {
        scenario: String,
        surroundings: Surroundings,
        result: serde_json::Value,
    }
    let Record { scenario, surroundings, result } = serde_json::from_str(record)?;
    let mut page = match scenario.as_str() {
        "echo" => echo::page(&serde_json::from_value(result)?),
        "broadcast" => others::broadcast(&serde_json::from_value(result)?),
        "compare" => others::compare(&serde_json::from_value(result)?),
        "instructions" => others::instructions(&serde_json::from_value(result)?),
        "fan-out" => others::fan_out(&serde_json::from_value(result)?),
        "coalescing" => others::coalescing(&serde_json::from_value(result)?),
        "cross-shard" => cross_shard::page(&serde_json::from_value(result)?),
        "quiet" => others::quiet(&serde_json::from_value(result)?),
        "connections" => others::connections(&serde_json::from_value(result)?),
        "handshake" => crowds::handshake(&serde_json::from_value(result)?),
        "storm" => crowds::storm(&serde_json::from_value(result)?),
        "idle-pings" => crowds::idle_pings(&serde_json::from_value(result)?),
        "together" => crowds::together(&serde_json::from_value(result)?),
        "idle" => others::idle(&serde_json::from_value(result)?),
        other => bail!("no page is made of a record of {other:?}"),
    };
    page.surroundings(&surroundings);
    Ok(page.finish())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::page;
    use crate::claims::{Claim, Verdict};
    use crate::echo::{Cell, Matrix, Open, ServerInfo};
    use crate::measure::Costs;
    use crate::pairs::{CPU, Pair, Pairs, Series};
    use crate::peers::{Kind, Missing};
    use crate::record::Surroundings;

    fn series(name: &str, cpu: f64) -> Series {
        let run = |factor| Costs { server_cpu_ns: cpu * factor, ..Costs::example() };
        Series { name: name.into(), runs: vec![run(0.9), run(1.0), run(1.1)] }
    }

    fn matrix() -> Matrix {
        let info = |name: &str, kind, limit| ServerInfo {
            name: name.into(),
            kind,
            limit,
            version: "1.2.3".into(),
            note: "note <of> it".into(),
        };
        let pair = |cpu| Pair {
            a: Costs { server_cpu_ns: cpu, ..Costs::example() },
            b: Costs { server_cpu_ns: 1000.0, ..Costs::example() },
        };
        let kept = (0..20).map(|step| pair(1000.0 + 3.0 * f64::from(step))).collect();
        let pairs = Pairs { kept, left_out: vec![] };
        let rounds = vec![series("headwater", 1030.0), series("raw", 1000.0), series("ws", 4000.0)];
        Matrix {
            options: json!({}),
            servers: vec![
                info("headwater", Kind::Websocket, false),
                info("raw", Kind::Raw, true),
                info("ws", Kind::Websocket, false),
            ],
            missing: vec![Missing { name: "bun".into(), why: "not there".into() }],
            cells: vec![Cell {
                connections: 64,
                payload: 20,
                request_bytes: 26,
                reply_bytes: 22,
                qualifying: vec![],
                failed: vec![],
                limit: "raw".into(),
                compared: "headwater".into(),
                ratio: pairs.ratio(CPU),
                pairs,
                open: Some(Open { rate: 5000.0, slowest: "ws".into(), rounds: rounds.clone() }),
                rounds,
                websockets: vec!["ws".into()],
            }],
            failed: vec![],
            claims: vec![Claim::new("what", "64 x 20 B", Verdict::Held, "1.029".into())],
        }
    }

    #[test]
    fn the_page_of_an_echo_holds_its_data_and_nothing_foreign() {
        let record = json!({
            "scenario": "echo", "surroundings": Surroundings::look(), "result": matrix(),
        });
        let page = page(&record.to_string()).unwrap();
        // A dot per pair; a dot per run in the bars.
        assert_eq!(page.matches("<title>pair ").count(), 20);
        assert_eq!(page.matches("class=\"run\"").count(), 9);
        assert_eq!(page.matches("<path class=\"curve").count(), 3);
        for text in ["1.029", "64 x 20 B", "missing", "not there", "held", "note &lt;of&gt; it"] {
            assert!(page.contains(text), "{text}");
        }
        for foreign in ["http://", "https://", "src=", "@import", "url(", "<script"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        assert!(page("{}").is_err());
        let unknown = json!({
            "scenario": "x", "surroundings": Surroundings::look(), "result": {},
        });
        assert!(page(&unknown.to_string()).is_err());
    }
}
