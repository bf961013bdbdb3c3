//! One self-contained page a run: verdict, what went wrong when, latencies, throughput, leaders, and for a violation
//! the operations that show it.

mod cycle;
mod plot;

use std::fmt::Write as _;

use crate::checker::{Anomaly, Report, Verdict};
use crate::history::Event;
use crate::run::Outcome;
use plot::Plot;

/// Anomalies shown of each checker.
const ANOMALIES_MAX: usize = 20;

const STYLE: &str = "
body{font:15px/1.5 system-ui,sans-serif;color:#1c2330;max-width:1100px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em} h2{font-size:1.15em;margin-top:2em}
.true{color:#0a7a3d}.false{color:#b3261e}.unknown{color:#8a6100}
table{border-collapse:collapse} td,th{text-align:left;padding:.25em 1em .25em 0;vertical-align:top}
pre,code{font:13px/1.45 ui-monospace,monospace} pre{background:#f4f5f7;padding:.8em;overflow-x:auto}
svg{display:block;margin:.5em 0;max-width:100%} .axis{stroke:#c5cad3} svg text{font:11px system-ui,sans-serif;fill:#5a6372}
.caveat{border-left:4px solid #d9a400;padding-left:1em}
@media(prefers-color-scheme:dark){body{background:#14171c;color:#dfe3ea} pre{background:#1e232b} .axis{stroke:#3a424f}
.true{color:#5fd394}.false{color:#ff8a80}.unknown{color:#e6c15c} svg text{fill:#9aa4b2}}
";

/// The page of a run.
pub fn page(outcome: &Outcome) -> String {
    let verdict = word(outcome.verdict);
    let mut html = String::new();
    let _ = write!(
        html,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>{workload}: {verdict}</title><style>{STYLE}</style>\
         <h1>{workload}: <span class={verdict}>{verdict}</span></h1><p>seed {seed}, {events} events</p>",
        workload = outcome.workload,
        seed = outcome.seed,
        events = outcome.events.len(),
    );
    if let Some(caveat) = outcome.caveat {
        let _ = write!(html, "<p class=caveat>{}</p>", escape(caveat));
    }
    summary(outcome, &mut html);
    let plot = Plot::new(&outcome.events);
    let _ = write!(html, "<h2>Latency</h2>{}", plot.latencies());
    let _ = write!(html, "<h2>Throughput</h2>{}", plot.throughput());
    let _ = write!(html, "<h2>Leader and term</h2>{}", plot.leaders(&outcome.leaders));
    for report in outcome.reports.iter().filter(|report| !report.anomalies.is_empty()) {
        violations(report, &outcome.events, &mut html);
    }
    faults(&outcome.events, &mut html);
    html
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::True => "true",
        Verdict::Unknown => "unknown",
        Verdict::False => "false",
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn summary(outcome: &Outcome, html: &mut String) {
    html.push_str("<table><tr><th>check<th>verdict<th>");
    for report in &outcome.reports {
        let (name, verdict, notes) = (report.checker, word(report.verdict), escape(&report.notes.join("; ")));
        let _ = write!(html, "<tr><td>{name}<td class={verdict}>{verdict}<td>{notes}");
    }
    html.push_str("</table>");
}

fn violations(report: &Report, events: &[Event], html: &mut String) {
    let _ = write!(html, "<h2 class=false>{}: {} violations</h2>", report.checker, report.anomalies.len());
    for anomaly in report.anomalies.iter().take(ANOMALIES_MAX) {
        let _ = write!(html, "<h3>{}</h3><p>{}</p>", escape(&anomaly.name), escape(&anomaly.what));
        if !anomaly.because.is_empty() {
            html.push_str(&cycle::draw(anomaly));
        }
        if !anomaly.events.is_empty() {
            operations(anomaly, events, html);
        }
    }
}

/// The operations that show a violation, invocation and completion.
fn operations(anomaly: &Anomaly, events: &[Event], html: &mut String) {
    html.push_str("<pre>");
    for index in &anomaly.events {
        let Some(at) = events.iter().position(|event| event.index == *index) else { continue };
        let completed = events[at + 1..].iter().find(|event| event.process == events[at].process);
        for event in std::iter::once(&events[at]).chain(completed) {
            let _ = writeln!(
                html,
                "{:>9.3} s  #{:<6} {:?} {:?} {} {}{}",
                event.time as f64 / 1e9,
                event.index,
                event.process,
                event.kind,
                event.f,
                escape(&event.value.to_string()),
                event.error.as_ref().map(|error| format!("  ({})", escape(error))).unwrap_or_default(),
            );
        }
    }
    html.push_str("</pre>");
}

fn faults(events: &[Event], html: &mut String) {
    html.push_str("<h2>What the nemesis did</h2><pre>");
    for event in events.iter().filter(|event| event.process == crate::history::Process::Nemesis) {
        let what = event.error.clone().or(event.value.as_str().map(str::to_owned)).unwrap_or_default();
        let (time, kind) = (event.time as f64 / 1e9, format!("{:?}", event.kind).to_lowercase());
        let _ = writeln!(html, "{time:>9.3} s  {:<26} {kind:<6} {}", event.f, escape(&what));
    }
    html.push_str("</pre>");
}
