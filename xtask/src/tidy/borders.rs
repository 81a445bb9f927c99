//! Where a source file may ask which system it is compiled for: where a module is named or its names are taken, and in
//! tests. Everything else is a condition scattered through code that should not have to know.
//!
//! Knows the shape that rustfmt gives attributes and items.

/// What a condition on the system mentions.
const SYSTEMS: [&str; 4] = ["unix", "windows", "target_os", "target_family"];

/// How a condition begins.
const CONDITIONS: [&str; 3] = ["cfg(", "cfg!(", "cfg_attr("];

/// Lists the conditions on the system that are at no border of a module.
pub(super) fn scattered(name: &str, text: &str, wrong: &mut Vec<String>) {
    if name.ends_with("tests.rs") || name.contains("/tests/") {
        return;
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim_start();
        let conditional = !line.starts_with("//") && CONDITIONS.iter().any(|begin| line.contains(begin));
        if !conditional {
            at += 1;
            continue;
        }
        let (condition, behind) = whole_condition(&lines, at);
        let item = item_behind(&lines, behind);
        let is_attribute = line.starts_with("#[");
        if is_attribute && mentions(&condition, "test") && is_border(item.map(|(_, item)| item)) {
            at = item.map_or(behind, |(start, _)| end_of(&lines, start));
            continue;
        }
        let on_system = SYSTEMS.iter().any(|system| mentions(&condition, system));
        if on_system && !(is_attribute && is_border(item.map(|(_, item)| item))) {
            wrong.push(format!(
                "{name}:{}: a condition on the system inside a module",
                at + 1
            ));
        }
        at = behind;
    }
}

/// A condition that may go over several lines, and the line behind it.
fn whole_condition(lines: &[&str], start: usize) -> (String, usize) {
    let mut condition = String::new();
    let mut open = 0_i32;
    for (at, line) in lines.iter().enumerate().skip(start) {
        condition.push_str(line);
        open += line.matches('(').count() as i32 - line.matches(')').count() as i32;
        let is_attribute = condition.trim_start().starts_with('#');
        if open <= 0 || !is_attribute {
            return (condition, at + 1);
        }
    }
    (condition, lines.len())
}

/// The first line of the item that attributes stand before.
fn item_behind<'a>(lines: &[&'a str], from: usize) -> Option<(usize, &'a str)> {
    let mut open = 0_i32;
    for (at, line) in lines.iter().enumerate().skip(from) {
        let line = line.trim_start();
        if open > 0 || line.starts_with("#[") {
            open += line.matches('[').count() as i32 - line.matches(']').count() as i32;
        } else if !line.is_empty() && !line.starts_with("//") {
            return Some((at, line));
        }
    }
    None
}

/// Whether an item is a module, or takes names from one.
fn is_border(item: Option<&str>) -> bool {
    let Some(item) = item else { return false };
    let mut words = item.split_whitespace();
    let mut word = words.next();
    // `pub(in crate::endpoint)` is two words.
    while word.is_some_and(|word| word.starts_with("pub") || word.ends_with(')')) {
        word = words.next();
    }
    matches!(word, Some("mod" | "use"))
}

/// The line behind an item that begins at `start`.
fn end_of(lines: &[&str], start: usize) -> usize {
    if !lines[start].ends_with('{') {
        return start + 1;
    }
    let indent = lines[start].len() - lines[start].trim_start().len();
    let closes = |line: &&str| line.len() == indent + 1 && line.trim_start() == "}";
    let end = lines.iter().skip(start).position(closes);
    end.map_or(lines.len(), |after| start + after + 1)
}

/// Whether a condition has this word, and not only as a part of another.
fn mentions(condition: &str, word: &str) -> bool {
    condition
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> usize {
        let mut wrong = Vec::new();
        scattered("crates/x/src/x.rs", text, &mut wrong);
        wrong.len()
    }

    #[test]
    fn a_condition_inside_a_module_is_found() {
        assert_eq!(found("#[cfg(unix)]\nfn x() {}\n"), 1);
        assert_eq!(found("fn x() {\n    #[cfg(not(windows))]\n    y();\n}\n"), 1);
        assert_eq!(
            found("fn x() -> bool {\n    cfg!(target_os = \"linux\") && y()\n}\n"),
            1
        );
        assert_eq!(found("enum X {\n    #[cfg(unix)]\n    Y,\n}\n"), 1);
        assert_eq!(
            found("#[cfg(all(\n    feature = \"a\",\n    unix\n))]\nimpl X {}\n"),
            1
        );
        assert_eq!(found("#![cfg_attr(windows, allow(dead_code))]\nmod x;\n"), 1);
        assert_eq!(found("#[cfg(unix)]\nmodule!();\n"), 1);
    }

    #[test]
    fn borders_of_modules_are_where_it_belongs() {
        assert_eq!(
            found("#[cfg(unix)]\nmod x;\n#[cfg(windows)]\npub(crate) mod y;\n"),
            0
        );
        assert_eq!(found("#[cfg(unix)]\npub(in crate::x) use self::y::Z;\n"), 0);
        let two = "#[cfg_attr(unix, path = \"x/unix.rs\")]\n#[cfg_attr(windows, path = \"x/windows.rs\")]\nmod x;\n";
        assert_eq!(found(two), 0);
        assert_eq!(
            found("#[cfg(unix)]\n#[allow(\n    dead_code\n)]\n// Why.\nmod x;\n"),
            0
        );
        assert_eq!(found("#[cfg(feature = \"unix_sockets\")]\nfn x() {}\n"), 0);
        assert_eq!(found("//! `cfg(unix)` in words.\n"), 0);
    }

    #[test]
    fn tests_may_ask_and_what_follows_them_may_not() {
        let tests = "#[cfg(test)]\nmod tests {\n    #[cfg(unix)]\n    fn x() {}\n}\n";
        assert_eq!(found(tests), 0);
        assert_eq!(found(&format!("{tests}#[cfg(unix)]\nfn x() {{}}\n")), 1);
        assert_eq!(found("#[cfg(test)]\nmod tests;\n#[cfg(unix)]\nfn x() {}\n"), 1);
        let mut wrong = Vec::new();
        scattered("crates/x/src/y/tests.rs", "#[cfg(unix)]\nfn x() {}\n", &mut wrong);
        assert!(wrong.is_empty());
    }
}
