//! Slips of the keyboard: the known word nearest to what was written. Pure.
//!
//! Knows nothing of what the words stand for.

/// The known name nearest to what was written, when it is near enough to be a slip.
pub(crate) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 1 + written.len() / 5;
    names
        .map(|name| (distance(&written.to_ascii_lowercase(), name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Edits between two words; swapping two neighbours counts as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j - 1] + change)
                .min(rows[i - 1][j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_another_word_is_not() {
        let of = |written| nearest(written, ["tcp", "tcp-listen", "unix", "maildir"].into_iter());
        assert_eq!(of("tpc"), Some("tcp"));
        assert_eq!(of("tcp-lisen"), Some("tcp-listen"));
        assert_eq!(of("Maildri"), Some("maildir"));
        assert_eq!(of("zzz"), None);
    }
}
