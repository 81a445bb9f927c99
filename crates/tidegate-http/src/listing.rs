//! The page that lists a directory.
//!
//! Knows nothing of where the names come from, only that they are not to be trusted in HTML or in a link.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The most entries one page shows: it is built in memory.
pub const ENTRIES_MAX: usize = 10_000;

const IN_LINK: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// One line of a listing.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Entry {
    /// The name as bytes, without a slash.
    pub name: Vec<u8>,
    /// Bytes of a file; `None` for a directory.
    pub size: Option<u64>,
}

/// Renders the page for the directory at `path` (as the client asked for it, decoded).
pub fn page(path: &str, mut entries: Vec<Entry>, all: Completeness) -> String {
    entries.sort_by(|one, other| (one.size.is_some(), &one.name).cmp(&(other.size.is_some(), &other.name)));
    let mut page = String::with_capacity(256 + entries.len() * 96);
    let title = escape(path);
    page.push_str("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\">");
    let _ = write!(
        page,
        "<title>{title}</title></head>\n<body><h1>{title}</h1>\n<ul>\n"
    );
    if path != "/" {
        page.push_str("<li><a href=\"../\">../</a></li>\n");
    }
    for entry in &entries {
        let slash = if entry.size.is_none() { "/" } else { "" };
        let link = percent_encode(&entry.name, &IN_LINK);
        let text = escape(&String::from_utf8_lossy(&entry.name));
        let _ = write!(page, "<li><a href=\"./{link}{slash}\">{text}{slash}</a>");
        if let Some(size) = entry.size {
            let _ = write!(page, " {size}");
        }
        page.push_str("</li>\n");
    }
    page.push_str("</ul>\n");
    if all == Completeness::Cut {
        let _ = writeln!(page, "<p>Only the first {ENTRIES_MAX} entries are shown.</p>");
    }
    page.push_str("</body></html>\n");
    page
}

/// Whether a listing holds every entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Completeness {
    /// Every one.
    Whole,
    /// The first [`ENTRIES_MAX`].
    Cut,
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out() {
        let entry = |name: &[u8], size| Entry {
            name: name.to_vec(),
            size,
        };
        let entries = vec![
            entry(b"b\"><script>", Some(3)),
            entry(b"a?x#y", Some(1)),
            entry(b"d", None),
        ];
        let page = page("/<x>/", entries, Completeness::Whole);
        assert!(!page.contains("<script>") && !page.contains("<x>"), "{page}");
        assert!(page.contains("href=\"./a%3Fx%23y\""), "{page}");
        assert!(
            page.contains("href=\"./d/\">d/</a></li>"),
            "directories first, with a slash: {page}"
        );
        let (directory, file) = (page.find("./d/"), page.find("./a%3F"));
        assert!(directory < file && page.contains("../"));
    }

    #[test]
    fn a_cut_listing_says_so() {
        assert!(page("/", vec![], Completeness::Cut).contains("Only the first"));
        assert!(!page("/", vec![], Completeness::Whole).contains("../"));
    }
}
