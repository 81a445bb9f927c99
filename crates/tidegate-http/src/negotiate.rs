//! `Accept-Encoding`: which precompressed sibling of a file a client would rather have.
//!
//! Knows nothing of compression: the siblings are there or they are not. (RFC 9110, section 12.5.3.)

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// A content coding that a sibling file may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coding {
    /// `file.zst`.
    Zstd,
    /// `file.br`.
    Brotli,
    /// `file.gz`.
    Gzip,
}

impl Coding {
    /// Ours first where the client likes several equally: the smaller result wins.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// What is appended to the name of the file.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
        }
    }

    /// The value of `Content-Encoding`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// The codings a client takes, the best first, as long as they are at least as welcome as the plain file.
pub fn wanted(headers: &HeaderMap) -> Vec<Coding> {
    let mut offers = Offers::default();
    for value in headers.get_all(ACCEPT_ENCODING) {
        for offer in value.to_str().unwrap_or_default().split(',') {
            offers.note(offer);
        }
    }
    let mut codings: Vec<(u16, Coding)> = Coding::ALL
        .into_iter()
        .filter_map(|coding| offers.weight(coding.token()).map(|weight| (weight, coding)))
        .filter(|(weight, _)| *weight > 0 && *weight >= offers.plain())
        .collect();
    codings.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight)); // stable: ours decides ties
    codings.into_iter().map(|(_, coding)| coding).collect()
}

/// Tokens and their weights in thousandths.
#[derive(Default)]
struct Offers(Vec<(String, u16)>);

impl Offers {
    fn note(&mut self, offer: &str) {
        let mut parts = offer.split(';');
        let token = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        if token.is_empty() {
            return;
        }
        let weight = parts
            .find_map(|part| part.trim().to_ascii_lowercase().strip_prefix("q=").map(weight))
            .unwrap_or(1000);
        self.0.push((token, weight));
    }

    fn weight(&self, token: &str) -> Option<u16> {
        let of = |name: &str| {
            self.0
                .iter()
                .find(|(found, _)| found == name)
                .map(|(_, weight)| *weight)
        };
        of(token).or_else(|| of("*"))
    }

    /// The plain file is welcome a little even when not named, and never more than asked for.
    fn plain(&self) -> u16 {
        self.0
            .iter()
            .find(|(found, _)| found == "identity")
            .map_or(1, |(_, weight)| *weight)
    }
}

fn weight(text: &str) -> u16 {
    match text.trim().parse::<f32>() {
        // Between 0 and 1000 by the clamp.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(weight) if weight.is_finite() => (weight.clamp(0.0, 1.0) * 1000.0) as u16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(value: &str) -> Vec<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
        wanted(&headers).into_iter().map(Coding::token).collect()
    }

    #[test]
    fn weights_decide_and_ties_are_ours() {
        assert_eq!(of("gzip, deflate, br, zstd"), ["br", "zstd", "gzip"]);
        assert_eq!(of("gzip;q=1.0, br;q=0.5"), ["gzip", "br"]);
        assert_eq!(of("br;q=0, gzip"), ["gzip"]);
        assert_eq!(of("*"), ["br", "zstd", "gzip"]);
        assert_eq!(of("identity;q=1, gzip;q=0.5"), Vec::<&str>::new());
        assert_eq!(of("gzip;q=nonsense"), Vec::<&str>::new());
        assert_eq!(of("GZIP"), ["gzip"]);
        assert!(wanted(&HeaderMap::new()).is_empty());
    }
}
