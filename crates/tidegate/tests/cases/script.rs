//! The small language the scenarios are written in, and its parser. Knows nothing of consumers.
//!
//! ```text
//! case 6 on channel proxy at 0/3       numbers, the rigs it fits, marks low/high[/max]
//!   push p; on R: write spam           a producer, and what it does when signalled (R2: only the second time)
//!   register p; write spam  => p=P     what is done, and what must then hold
//!   flush                   => p=P,R,P
//! ```
//!
//! Data: a word, `''` for nothing, `_` for a space, `70000*x` for a repetition, `3*x+y` for both joined.

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) numbers: Vec<String>,
    pub(crate) rigs: Vec<String>,
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) max: Option<usize>,
    pub(crate) producers: Vec<Player>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(crate) struct Player {
    pub(crate) name: String,
    pub(crate) kind: PlayerKind,
    pub(crate) handlers: Vec<Handler>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PlayerKind {
    Push,
    Pull,
}

#[derive(Clone, Debug)]
pub(crate) struct Handler {
    pub(crate) signal: char,
    /// Counted from 1; none means each time.
    pub(crate) nth: Option<usize>,
    pub(crate) actions: Vec<Action>,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) actions: Vec<Action>,
    pub(crate) expect: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Register(String),
    Unregister,
    Write(Vec<u8>),
    WriteList(Vec<Vec<u8>>),
    Finish,
    Abort,
    Drop,
    Kill,
    Flush(Option<usize>),
    Drain,
    Hold,
    Release,
    Panic,
}

pub(crate) fn parse(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for line in text.lines().map(|line| line.split("--").next().unwrap().trim()) {
        if line.is_empty() {
            continue;
        }
        match line.strip_prefix("case ") {
            Some(head) => cases.push(parse_head(head)),
            None => parse_line(cases.last_mut().expect("a case comes first"), line),
        }
    }
    cases
}

fn parse_head(head: &str) -> Case {
    let (numbers, rest) = head.split_once(" on ").expect("case N on RIGS");
    let (rigs, marks) = rest.split_once(" at ").unwrap_or((rest, "0/65536"));
    let marks: Vec<usize> = marks
        .split('/')
        .map(|n| n.trim().parse().expect("a mark"))
        .collect();
    Case {
        numbers: words(numbers),
        rigs: words(rigs),
        low: marks[0],
        high: marks[1],
        max: marks.get(2).copied(),
        producers: Vec::new(),
        steps: Vec::new(),
    }
}

fn parse_line(case: &mut Case, line: &str) {
    if line.starts_with("push ") || line.starts_with("pull ") {
        case.producers.push(parse_player(line));
    } else {
        case.steps.push(parse_step(line));
    }
}

fn parse_player(line: &str) -> Player {
    let mut parts = line.split("; on ");
    let head = words(parts.next().unwrap());
    let kind = if head[0] == "push" {
        PlayerKind::Push
    } else {
        PlayerKind::Pull
    };
    let mut handlers: Vec<Handler> = parts.map(parse_handler).collect();
    if head.get(2).is_some_and(|word| word == "yields") {
        handlers.extend(head[3..].iter().enumerate().map(|(index, item)| Handler {
            signal: 'R',
            nth: Some(index + 1),
            actions: vec![Action::Write(data(item))],
        }));
    }
    Player {
        name: head[1].clone(),
        kind,
        handlers,
    }
}

fn parse_handler(text: &str) -> Handler {
    let (when, actions) = text.split_once(':').expect("on SIGNAL: ACTIONS");
    let mut letters = when.trim().chars();
    let signal = letters.next().expect("a signal");
    let nth = letters.as_str();
    Handler {
        signal,
        nth: (!nth.is_empty()).then(|| nth.parse().expect("a count")),
        actions: actions.split(',').map(parse_action).collect(),
    }
}

fn parse_step(line: &str) -> Step {
    let (actions, expect) = line.split_once("=>").unwrap_or((line, ""));
    Step {
        text: line.to_owned(),
        actions: actions
            .split(';')
            .filter(|part| !part.trim().is_empty())
            .map(parse_action)
            .collect(),
        expect: expect
            .split(';')
            .filter(|part| !part.trim().is_empty())
            .map(|part| part.split_once('=').expect("NAME=VALUE"))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().replace('_', " ")))
            .collect(),
    }
}

fn parse_action(text: &str) -> Action {
    let words = words(text);
    match words[0].as_str() {
        "register" => Action::Register(words[1].clone()),
        "unregister" => Action::Unregister,
        "write" => Action::Write(data(&words[1])),
        "writes" => Action::WriteList(words[1..].iter().flat_map(|word| list(word)).collect()),
        "finish" => Action::Finish,
        "abort" => Action::Abort,
        "drop" => Action::Drop,
        "kill" => Action::Kill,
        "flush" => Action::Flush(words.get(1).map(|n| n.parse().expect("a count"))),
        "drain" => Action::Drain,
        "hold" => Action::Hold,
        "release" => Action::Release,
        "panic" => Action::Panic,
        other => panic!("no action is called {other:?}"),
    }
}

/// What a word of data stands for.
pub(crate) fn data(word: &str) -> Vec<u8> {
    if word == "''" {
        return Vec::new();
    }
    let part = |part: &str| match part.split_once('*') {
        Some((count, byte)) => byte.repeat(count.parse().expect("a count")),
        None => part.replace('_', " "),
    };
    word.split('+').map(part).collect::<String>().into_bytes()
}

/// `20x50*y` is twenty pieces of fifty bytes.
fn list(word: &str) -> Vec<Vec<u8>> {
    match word.split_once('x').map(|(count, piece)| (count.parse(), piece)) {
        Some((Ok(count), piece)) => vec![data(piece); count],
        _ => vec![data(word)],
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
