//! What the terminal shows: tables that line up, and progress; lines, errors and colour are [`chorus_terminal`]'s.

use std::io::IsTerminal;
use std::time::Duration;

pub use chorus_terminal::{OutputError, fail, green, line, note, print};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Rows as columns that line up, two spaces apart.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row: &Vec<String>| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column: usize| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Bytes as a person reads them.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (count.max(1).ilog2() / 10).min(4) as usize;
    match unit {
        0 => format!("{count} B"),
        _ => format!("{:.1} {}", count as f64 / f64::from(1u32 << 10).powi(unit as i32), UNITS[unit]),
    }
}

/// One line a node while a cluster comes up: moving on a terminal, plain otherwise.
pub struct ProgressLines {
    bars: Option<Vec<(String, ProgressBar)>>,
}

impl ProgressLines {
    pub fn new(names: &[&str]) -> ProgressLines {
        if !std::io::stderr().is_terminal() {
            return ProgressLines { bars: None };
        }
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("  {spinner} {prefix}  {msg}").expect("the template is valid");
        let bar = |name: &&str| {
            let bar = all.add(ProgressBar::new_spinner().with_style(style.clone()).with_prefix((*name).to_owned()));
            bar.enable_steady_tick(Duration::from_millis(100));
            ((*name).to_owned(), bar)
        };
        ProgressLines { bars: Some(names.iter().map(bar).collect()) }
    }

    /// Shows `message` for `name`; `done` ends its line.
    pub fn show(&self, name: &str, message: &str, done: bool) {
        let Some(bars) = &self.bars else {
            note(format!("  {name}  {message}"));
            return;
        };
        for (_, bar) in bars.iter().filter(|(bar_name, _)| bar_name == name) {
            match done {
                true => bar.finish_with_message(green(message)),
                false => bar.set_message(message.to_owned()),
            }
        }
    }

    /// Takes the moving lines away.
    pub fn clear(&self) {
        for (_, bar) in self.bars.iter().flatten() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["NAME".to_owned(), "STATE".to_owned()], vec!["n1".to_owned(), "running".to_owned()]];
        assert_eq!(table(&rows), "NAME  STATE\nn1    running\n");
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(5 << 30)], ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    }
}
