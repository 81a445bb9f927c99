//! One table of figures: rows by name, medians of rounds, and the ratio to our own row. Knows no measurement.

use std::fmt::Write;

use anyhow::Result;

use super::rig::median;

/// Figures of several contestants over several rounds.
pub(crate) struct Table {
    title: String,
    columns: Vec<&'static str>,
    ratio_of: &'static str,
    ratio: Ratio,
    rows: Vec<(String, Vec<Vec<f64>>)>,
}

/// What the last column says.
enum Ratio {
    /// The first row's figure over each row's.
    OursOverTheirs,
    /// Each row's figure over that of this row.
    Over(&'static str),
}

impl Table {
    /// An empty table. The ratio column is taken over `ratio_of`.
    pub(crate) fn new(title: &str, columns: &[&'static str], ratio_of: &'static str) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.to_vec(),
            ratio_of,
            ratio: Ratio::OursOverTheirs,
            rows: Vec::new(),
        }
    }

    /// The ratio column is each row's figure over that of one row.
    pub(crate) fn over(mut self, row: &'static str) -> Self {
        self.ratio = Ratio::Over(row);
        self
    }

    /// Rounds that were measured.
    pub(crate) fn rounds(&self) -> usize {
        let columns = self.rows.iter().flat_map(|(_, columns)| columns);
        columns.map(Vec::len).max().unwrap_or(0)
    }

    /// One round's figures of one contestant; what was not measured is NaN and left out of the median.
    pub(crate) fn add(&mut self, name: &str, figures: &[f64]) {
        let at = self
            .rows
            .iter()
            .position(|(row, _)| row == name)
            .unwrap_or_else(|| {
                self.rows
                    .push((name.to_owned(), vec![Vec::new(); self.columns.len()]));
                self.rows.len() - 1
            });
        let shown: Vec<String> = figures.iter().map(|figure| format!("{figure:.3}")).collect();
        println!("  {}: {name}: {}", self.title, shown.join("  "));
        for (column, figure) in self.rows[at].1.iter_mut().zip(figures) {
            column.extend(figure.is_finite().then_some(*figure));
        }
    }

    /// As [`add`](Self::add); a contestant that cannot be measured is left out of this round, with a word.
    pub(crate) fn add_or_tell(&mut self, name: &str, figures: Result<impl AsRef<[f64]>>) {
        match figures {
            Ok(figures) => self.add(name, figures.as_ref()),
            Err(error) => println!("  {}: {name} left out: {error:#}", self.title),
        }
    }

    /// The table as Markdown: medians, and the ratios of one column.
    pub(crate) fn markdown(&self) -> String {
        let ratio_at = self.columns.iter().position(|column| *column == self.ratio_of);
        let figure = |row: &str| {
            let row = self.rows.iter().find(|(name, _)| name == row);
            row.map_or(f64::NAN, |row| median(&row.1[ratio_at.unwrap_or(0)]))
        };
        let first = self.rows.first().map_or("ours", |(name, _)| name);
        let mut text = format!("### {}\n\n| |", self.title);
        for column in &self.columns {
            let _ = write!(text, " {column} |");
        }
        let ratio = match self.ratio {
            Ratio::OursOverTheirs => format!("{first} ÷ theirs"),
            Ratio::Over(row) => format!("÷ {row}"),
        };
        let _ = writeln!(text, " {ratio} |\n|---|{}", "---|".repeat(self.columns.len() + 1));
        for (name, columns) in &self.rows {
            let _ = write!(text, "| {} |", name.replace('|', "\\|"));
            for column in columns {
                let _ = write!(text, " {} |", shown(median(column), 3));
            }
            let ratio = match self.ratio {
                Ratio::OursOverTheirs => figure(first) / figure(name),
                Ratio::Over(row) => figure(name) / figure(row),
            };
            let _ = writeln!(text, " {} |", shown(ratio, 2));
        }
        text
    }
}

/// A figure, or a dash where nothing was measured.
fn shown(figure: f64, digits: usize) -> String {
    if figure.is_finite() {
        format!("{figure:.digits$}")
    } else {
        "–".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let mut table = Table::new("t", &["GiB/s"], "GiB/s");
        for figure in [1.0, 3.0, 2.0] {
            table.add("ours", &[figure]);
            table.add("theirs", &[figure * 2.0]);
        }
        let text = table.markdown();
        assert!(text.contains("| ours | 2.000 | 1.00 |"), "{text}");
        assert!(text.contains("| theirs | 4.000 | 0.50 |"), "{text}");
        assert_eq!(table.rounds(), 3);
        let text = table.over("ours").markdown();
        assert!(text.contains("| | GiB/s | ÷ ours |"), "{text}");
        assert!(text.contains("| theirs | 4.000 | 2.00 |"), "{text}");
    }

    #[test]
    fn what_was_not_measured_is_a_dash_and_a_bar_stays_in_its_cell() {
        let mut table = Table::new("t", &["GiB/s"], "GiB/s");
        table.add("ours", &[f64::NAN]);
        table.add("a | b", &[1.0]);
        table.add("a | b", &[f64::NAN]);
        let text = table.markdown();
        assert!(text.contains("| ours | – | – |"), "{text}");
        assert!(text.contains("| a \\| b | 1.000 | – |"), "{text}");
    }
}
