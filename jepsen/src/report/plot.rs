//! The plots over time, as SVG.

use std::fmt::Write as _;

use crate::history::{Event, Kind, Process, operations};
use crate::run::Leaders;

const WIDTH: f64 = 1060.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 8.0;
/// The range of latencies: 0.1 ms to 10 s.
const DECADES: (f64, f64) = (-1.0, 4.0);
const POINTS_MAX: usize = 12_000;

/// What all plots of a run share: its length, and when something was wrong.
pub struct Plot<'a> {
    events: &'a [Event],
    end: f64,
    faults: Vec<(f64, f64, &'a str)>,
}

fn seconds(time: u64) -> f64 {
    time as f64 / 1e9
}

impl<'a> Plot<'a> {
    pub fn new(events: &'a [Event]) -> Plot<'a> {
        let end = events.last().map_or(1.0, |event| seconds(event.time)).max(1.0);
        let mut faults: Vec<(f64, f64, &str)> = Vec::new();
        for event in events.iter().filter(|event| event.process == Process::Nemesis) {
            match event.kind {
                Kind::Ok => faults.push((seconds(event.time), seconds(event.time) + 0.3, &event.f)),
                Kind::Info => {
                    if let Some(last) = faults.last_mut().filter(|last| event.value == last.2) {
                        last.1 = seconds(event.time);
                    }
                }
                _ => {}
            }
        }
        Plot { events, end, faults }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + at / self.end * (WIDTH - LEFT - 4.0)
    }

    /// The frame: time below, faults as bands behind.
    fn framed(&self, inner: &str) -> String {
        let mut svg = format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' width={WIDTH} role=img>");
        let floor = HEIGHT - BOTTOM;
        for (from, to, name) in &self.faults {
            let (x, width) = (self.x(*from), (self.x(*to) - self.x(*from)).max(1.0));
            let _ = write!(
                svg,
                "<rect x={x:.1} y={TOP} width={width:.1} height={:.1} fill=#d9485f fill-opacity=.13><title>{name}</title></rect>",
                floor - TOP
            );
        }
        let _ = write!(svg, "<path class=axis fill=none d='M{LEFT} {TOP}V{floor}H{WIDTH}'/>");
        let step = [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1800.0];
        let step = step.into_iter().find(|step| self.end / step <= 12.0).unwrap_or(3600.0);
        let mut at = 0.0;
        while at <= self.end {
            let _ = write!(svg, "<text x={:.1} y={:.1}>{at} s</text>", self.x(at), HEIGHT - 8.0);
            at += step;
        }
        svg.push_str(inner);
        svg.push_str("</svg>");
        svg
    }

    /// Each operation as a dot, by when it began and how long it took, on a logarithmic scale.
    pub fn latencies(&self) -> String {
        let (low, high) = DECADES;
        let floor = HEIGHT - BOTTOM;
        let y = |ms: f64| floor - (ms.max(1e-3).log10().clamp(low, high) - low) / (high - low) * (floor - TOP);
        let mut svg = String::new();
        for (ms, label) in
            [(0.1, "0.1 ms"), (1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1e3, "1 s"), (1e4, "10 s")]
        {
            let _ = write!(svg, "<text x=2 y={:.1}>{label}</text>", y(ms) + 4.0);
        }
        let operations = operations(self.events);
        let every = operations.len().div_ceil(POINTS_MAX).max(1);
        for (colour, kind) in [("#2f7ed8", Kind::Ok), ("#e0a100", Kind::Fail), ("#d03050", Kind::Info)] {
            let mut path = String::new();
            for operation in operations.iter().filter(|operation| operation.outcome() == kind).step_by(every) {
                let Some(completed) = operation.completed else { continue };
                let ms = (completed.time - operation.invoked.time) as f64 / 1e6;
                let _ = write!(path, "M{:.1} {:.1}h.01", self.x(seconds(operation.invoked.time)), y(ms));
            }
            let _ = write!(
                svg,
                "<path d='{path}' stroke={colour} stroke-width=2.2 stroke-linecap=round stroke-opacity=.6 fill=none>\
                 <title>{kind:?}</title></path>"
            );
        }
        self.framed(&svg)
    }

    /// Operations a second by outcome.
    pub fn throughput(&self) -> String {
        let buckets = self.end.ceil() as usize + 1;
        let mut counts = [vec![0_u32; buckets], vec![0; buckets], vec![0; buckets]];
        for event in self.events.iter().filter(|event| event.process != Process::Nemesis) {
            let kind = match event.kind {
                Kind::Ok => 0,
                Kind::Fail => 1,
                Kind::Info => 2,
                Kind::Invoke => continue,
            };
            counts[kind][seconds(event.time) as usize] += 1;
        }
        let most = counts.iter().flatten().copied().max().unwrap_or(0).max(1);
        let floor = HEIGHT - BOTTOM;
        let y = |count: u32| floor - f64::from(count) / f64::from(most) * (floor - TOP);
        let mut svg = format!("<text x=2 y={:.1}>{most}/s</text>", TOP + 10.0);
        for (colour, name, counts) in
            [("#2f7ed8", "ok", &counts[0]), ("#e0a100", "fail", &counts[1]), ("#d03050", "info", &counts[2])]
        {
            let points: Vec<String> = counts
                .iter()
                .enumerate()
                .map(|(at, count)| format!("{:.1},{:.1}", self.x(at as f64), y(*count)))
                .collect();
            let _ = write!(
                svg,
                "<polyline points='{}' stroke={colour} fill=none stroke-width=1.6><title>{name}</title></polyline>",
                points.join(" ")
            );
        }
        self.framed(&svg)
    }

    /// Who led, one line a member, and the term where it changes.
    pub fn leaders(&self, leaders: &Leaders) -> String {
        let members = leaders.iter().filter_map(|(_, leader, _)| *leader).max().unwrap_or(1);
        let floor = HEIGHT - BOTTOM;
        let y = |number: usize| TOP + 12.0 + (floor - TOP - 24.0) * (number - 1) as f64 / (members.max(2) - 1) as f64;
        let mut svg = String::new();
        for number in 1..=members {
            let _ = write!(svg, "<text x=2 y={:.1}>n{number}</text>", y(number) + 4.0);
        }
        let mut last_term = 0;
        for pair in leaders.windows(2) {
            let [(from, leader, term), (to, ..)] = pair else { continue };
            let Some(number) = leader else { continue };
            let (x1, x2, y) = (self.x(seconds(*from)), self.x(seconds(*to)), y(*number));
            let _ = write!(svg, "<path d='M{x1:.1} {y:.1}H{x2:.1}' stroke=#2a9d5c stroke-width=5 />");
            if *term != last_term {
                let _ = write!(svg, "<text x={x1:.1} y={:.1}>{term}</text>", y - 6.0);
                last_term = *term;
            }
        }
        self.framed(&svg)
    }
}
