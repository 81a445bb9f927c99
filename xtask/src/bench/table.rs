//! One table of figures: rows by name, medians of rounds, and the ratio to our own row. Knows no measurement.

use std::fmt::Write;

use anyhow::Result;

use super::rig::median;

/// Figures of several contestants over several rounds.
pub(crate) struct Table {
    title: String,
    columns: Vec<&'static str>,
    better_high: &'static str,
    rows: Vec<(String, Vec<Vec<f64>>)>,
}

impl Table {
    /// An empty table. The ratio column is taken over `ratio_of`.
    pub(crate) fn new(title: &str, columns: &[&'static str], ratio_of: &'static str) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.to_vec(),
            better_high: ratio_of,
            rows: Vec::new(),
        }
    }

    /// One round's figures of one contestant.
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
            column.push(*figure);
        }
    }

    /// As [`add`](Self::add); a contestant that cannot be measured is left out of this round, with a word.
    pub(crate) fn add_or_tell(&mut self, name: &str, figures: Result<impl AsRef<[f64]>>) {
        match figures {
            Ok(figures) => self.add(name, figures.as_ref()),
            Err(error) => println!("  {}: {name} left out: {error:#}", self.title),
        }
    }

    /// The table as Markdown: medians, and the first row's figure over each row's.
    pub(crate) fn markdown(&self) -> String {
        let ratio_at = self
            .columns
            .iter()
            .position(|column| *column == self.better_high)
            .unwrap_or(0);
        let of = |row: &(String, Vec<Vec<f64>>), at: usize| median(&row.1[at]);
        let mut text = format!("### {}\n\n| |", self.title);
        for column in &self.columns {
            let _ = write!(text, " {column} |");
        }
        let _ = writeln!(
            text,
            " {} ÷ theirs |\n|---|{}",
            first_name(&self.rows),
            "---|".repeat(self.columns.len() + 1)
        );
        for row in &self.rows {
            let _ = write!(text, "| {} |", row.0);
            for at in 0..self.columns.len() {
                let _ = write!(text, " {:.3} |", of(row, at));
            }
            let ratio = self
                .rows
                .first()
                .map_or(f64::NAN, |first| of(first, ratio_at) / of(row, ratio_at));
            let _ = writeln!(text, " {ratio:.2} |");
        }
        text
    }
}

fn first_name(rows: &[(String, Vec<Vec<f64>>)]) -> &str {
    rows.first().map_or("ours", |(name, _)| name)
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
    }
}
