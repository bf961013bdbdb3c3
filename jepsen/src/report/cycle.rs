//! A cycle of transactions, drawn.

use std::f64::consts::TAU;
use std::fmt::Write as _;

use super::escape;
use crate::checker::Anomaly;

const SIZE: f64 = 420.0;
const RADIUS: f64 = 140.0;

/// The transactions on a circle, each with an arrow to the one it must come before.
pub fn draw(anomaly: &Anomaly) -> String {
    let count = anomaly.events.len();
    let place = |at: usize| {
        let angle = TAU * at as f64 / count as f64 - TAU / 4.0;
        (SIZE / 2.0 + RADIUS * angle.cos(), SIZE / 2.0 + RADIUS * angle.sin())
    };
    let mut svg = format!(
        "<svg viewBox='0 0 {SIZE} {SIZE}' width={SIZE} role=img><defs><marker id=tip viewBox='0 0 8 8' refX=7 refY=4 \
         markerWidth=8 markerHeight=8 orient=auto><path d='M0 0L8 4L0 8z' fill=#d03050 /></marker></defs>"
    );
    for (at, event) in anomaly.events.iter().enumerate() {
        let ((x1, y1), (x2, y2)) = (place(at), place((at + 1) % count));
        let length = ((x2 - x1).powi(2) + (y2 - y1).powi(2)).sqrt().max(1.0);
        let (dx, dy) = ((x2 - x1) / length * 30.0, (y2 - y1) / length * 30.0);
        // Bent, so that of two transactions both arrows show.
        let (bend_x, bend_y) = ((x1 + x2) / 2.0 - (y2 - y1) * 0.15, (y1 + y2) / 2.0 + (x2 - x1) * 0.15);
        let _ = write!(
            svg,
            "<path d='M{:.1} {:.1}Q{bend_x:.1} {bend_y:.1} {:.1} {:.1}' stroke=#d03050 stroke-width=1.6 fill=none \
             marker-end='url(#tip)'><title>{}</title></path>",
            x1 + dx,
            y1 + dy,
            x2 - dx,
            y2 - dy,
            escape(&anomaly.because[at])
        );
        let _ = write!(
            svg,
            "<circle cx={x1:.1} cy={y1:.1} r=24 fill=none stroke=#5a6372 /><text x={x1:.1} y={:.1} text-anchor=middle>#{event}</text>",
            y1 + 4.0
        );
    }
    svg.push_str("</svg><ol>");
    for (event, because) in anomaly.events.iter().zip(&anomaly.because) {
        let _ = write!(svg, "<li>#{event}: {}</li>", escape(because));
    }
    svg.push_str("</ol>");
    svg
}
