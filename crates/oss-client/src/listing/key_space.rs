//! Keys as numbers: from the keys that are known of a listing, it estimates the key that lies some pages ahead.
//!
//! A key is read as the digits of a number, most significant first, each in the alphabet of its place: the characters
//! seen there so far, with what usually comes with them. Characters and not bytes, since a key must be UTF-8; both sort
//! the same. A wrong guess costs a request and nothing else.

/// Places with an alphabet of their own; the rest share one. Numbers and hashes that order keys stand further left.
const PLACES: usize = 96;

/// Below this weight a digit does not change an `f64`.
const FINEST: f64 = 1e-15;

/// `start-after` must be shorter than 1,024 bytes.
const LONGEST: usize = 1000;

/// Pages of a group, such as a directory, from which the next one is worth a request: a smaller one is soon listed.
const LARGE_GROUP: u64 = 3;

const DIGITS: u128 = range(b'0', b'9');
const LOWER: u128 = range(b'a', b'z');
const UPPER: u128 = range(b'A', b'Z');
const LOWER_HEX: u128 = range(b'a', b'f');
const UPPER_HEX: u128 = range(b'A', b'F');

const fn range(first: u8, last: u8) -> u128 {
    (u128::MAX >> (127 - (last - first))) << first
}

/// Characters in their order: those of ASCII one by one, the others as one range.
#[derive(Clone, Copy, Debug, Default)]
struct Alphabet {
    ascii: u128,
    wide: Option<(char, char)>,
}

impl Alphabet {
    fn insert(&mut self, character: char) {
        if character.is_ascii() {
            self.ascii |= 1 << u32::from(character);
        } else {
            let (least, most) = self.wide.unwrap_or((character, character));
            self.wide = Some((least.min(character), most.max(character)));
        }
    }

    /// The alphabet with characters that usually come together with those seen, as far as other places (`all`) have
    /// them. A sorted listing shows the characters of its first places last.
    fn completed(self, all: Self) -> Self {
        let mut ascii = self.ascii;
        for class in [LOWER, UPPER] {
            if ascii & class != 0 {
                ascii |= all.ascii & class;
            }
        }
        if ascii & (DIGITS | LOWER_HEX | UPPER_HEX) != 0 {
            for (class, hex) in [(LOWER, LOWER_HEX), (UPPER, UPPER_HEX)] {
                // Four of the six are no coincidence.
                if all.ascii & class & !hex == 0 && (all.ascii & hex).count_ones() >= 4 {
                    ascii |= DIGITS | hex;
                }
            }
        }
        if ascii & DIGITS != 0 {
            ascii |= DIGITS;
        }
        Self { ascii, wide: self.wide.and(all.wide) }
    }

    fn len(self) -> u32 {
        let wide = self.wide.map_or(0, |(least, most)| u32::from(most) - u32::from(least) + 1);
        self.ascii.count_ones() + wide
    }

    /// How many of the alphabet come before `character`.
    fn rank(self, character: char) -> u32 {
        if character.is_ascii() {
            return (self.ascii & !(u128::MAX << u32::from(character))).count_ones();
        }
        let wide = self.wide.map_or(0, |(least, most)| {
            if character > most { self.len() } else { u32::from(character).saturating_sub(u32::from(least)) }
        });
        (self.ascii.count_ones() + wide).min(self.len())
    }

    fn nth(self, rank: u32) -> Option<char> {
        if let Some(beyond) = rank.checked_sub(self.ascii.count_ones()) {
            let (least, most) = self.wide?;
            let code = (u32::from(least) + beyond).min(u32::from(most));
            // The gap of the surrogates holds no character.
            return Some(char::from_u32(code).unwrap_or('\u{E000}'));
        }
        (0..128_u8).filter(|code| self.ascii >> code & 1 == 1).nth(rank as usize).map(char::from)
    }
}

/// The characters that were seen at one place of the keys.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    seen: Alphabet,
    last: Option<char>,
    /// Whether a lesser character followed: then this place has run through all its characters.
    wrapped: bool,
}

/// The keys of one listing.
#[derive(Debug)]
pub(super) struct KeySpace {
    /// What every key starts with, in characters.
    prefix: usize,
    /// Keys of a full page.
    page: u64,
    places: Vec<Place>,
    all: Alphabet,
}

/// Keys that were listed one after the other: `keys` of them after `first`, up to and with `last`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) first: &'a str,
    pub(super) last: &'a str,
    pub(super) keys: u64,
}

/// A place to list from.
#[derive(Debug, PartialEq)]
pub(super) struct Split {
    pub(super) after: String,
    /// Keys between here and the end of the segment, if they lie as dense as in the run.
    pub(super) beyond: f64,
}

impl KeySpace {
    pub(super) fn new(prefix: &str, page: u64) -> Self {
        Self { prefix: prefix.chars().count(), page, places: Vec::new(), all: Alphabet::default() }
    }

    /// Learns from keys that follow each other.
    pub(super) fn learn<'a>(&mut self, keys: impl Iterator<Item = &'a str>) {
        for place in &mut self.places {
            place.last = None;
        }
        for key in keys {
            for (index, character) in key.chars().skip(self.prefix).enumerate() {
                self.all.insert(character);
                if index == PLACES {
                    break;
                }
                if index == self.places.len() {
                    self.places.push(Place::default());
                }
                let place = &mut self.places[index];
                place.seen.insert(character);
                place.wrapped |= place.last.is_some_and(|last| character < last);
                place.last = Some(character);
            }
        }
    }

    fn place(&self, index: usize) -> Option<&Place> {
        self.places.get(index.checked_sub(self.prefix)?)
    }

    fn alphabet(&self, index: usize) -> Alphabet {
        match self.place(index) {
            Some(place) if place.wrapped => place.seen,
            Some(place) => place.seen.completed(self.all),
            None => self.all,
        }
    }

    /// Whether the digits before this place and those after it are two numbers.
    fn separates(&self, index: usize, character: char) -> bool {
        let constant = || self.place(index).is_some_and(|place| place.seen.len() == 1);
        character == '/' || (!character.is_alphanumeric() && constant())
    }

    /// The place of the key among all that share its first `from` characters: 0 is before them, 1 after.
    fn fraction(&self, key: &[char], from: usize) -> f64 {
        let (mut fraction, mut weight) = (0.0, 1.0);
        for (place, &character) in key.iter().enumerate().skip(from) {
            let alphabet = self.alphabet(place);
            weight /= f64::from(alphabet.len().max(1));
            fraction += weight * f64::from(alphabet.rank(character));
            if weight < FINEST {
                break;
            }
        }
        fraction
    }

    /// The key about `ahead` keys after `from`, if the keys there lie as dense as in the run, and how many come after
    /// it up to `end`. `None` if no such key can be estimated.
    pub(super) fn ahead(&self, run: Run<'_>, from: &str, ahead: f64, end: Option<&str>) -> Option<Split> {
        let [first, last, origin]: [Vec<char>; 3] = [run.first, run.last, from].map(|key| key.chars().collect());
        let ratio = ahead / run.keys.max(1) as f64;
        let shared = common(&last, &origin);
        let mut start = common(&first, &last);
        let (step, target) = loop {
            if start <= shared {
                let step = (self.fraction(&last, start) - self.fraction(&first, start)) * ratio;
                let target = self.fraction(&origin, start) + step;
                if step < FINEST * 10.0 {
                    return None;
                }
                if target < 1.0 {
                    break (step, target);
                }
            }
            // The number overflows: carry into the place before.
            start = start.checked_sub(1).filter(|&start| start >= self.prefix)?;
            if self.separates(start, last[start]) {
                // The run is true for its group alone.
                let leaves = start < shared && run.keys >= LARGE_GROUP * self.page;
                return if leaves { past(&origin[..=start], end) } else { None };
            }
        };
        let after = self.spell(&origin[..start], target, step / 16.0);
        if after.as_str() <= from || after.len() > LONGEST {
            return None;
        }
        let Some(end) = end else { return Some(Split { after, beyond: f64::INFINITY }) };
        if after.as_str() >= end {
            return None;
        }
        let end: Vec<char> = end.chars().collect();
        let beyond = if common(&end, &origin) < start {
            f64::INFINITY
        } else {
            (self.fraction(&end, start) - target) / step * ahead
        };
        Some(Split { after, beyond })
    }

    /// The key at this fraction of all keys that begin with `head`, with digits that weigh at least `precision`.
    fn spell(&self, head: &[char], fraction: f64, precision: f64) -> String {
        let mut key: String = head.iter().collect();
        let (mut rest, mut weight) = (fraction, 1.0);
        let mut place = head.len();
        while weight > precision && key.len() < LONGEST {
            let alphabet = self.alphabet(place);
            let len = f64::from(alphabet.len().max(1));
            let rank = (rest * len).floor().clamp(0.0, len - 1.0);
            let Some(character) = alphabet.nth(rank as u32) else { break };
            key.push(character);
            rest = rest * len - rank;
            weight /= len;
            place += 1;
        }
        key
    }

    /// The place after every key with the same character as `key` after the prefix.
    pub(super) fn past_alike(&self, key: &str) -> Option<Split> {
        let group: Vec<char> = key.chars().take(self.prefix + 1).collect();
        if group.len() > self.prefix { past(&group, None) } else { None }
    }
}

/// The place after every key that starts with `group`.
fn past(group: &[char], end: Option<&str>) -> Option<Split> {
    let (&last, head) = group.split_last()?;
    let next = match last {
        '\u{D7FF}' => '\u{E000}',
        other => char::from_u32(u32::from(other) + 1)?,
    };
    let after: String = head.iter().chain([&next]).collect();
    (end.is_none_or(|end| after.as_str() < end)).then_some(Split { after, beyond: f64::INFINITY })
}

/// How many characters two keys share at the start.
fn common(left: &[char], right: &[char]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(prefix: &str, keys: impl Iterator<Item = String>) -> KeySpace {
        let mut space = KeySpace::new(prefix, 1000);
        let keys: Vec<String> = keys.collect();
        space.learn(keys.iter().map(String::as_str));
        space
    }

    fn run<'a>(first: &'a str, last: &'a str, keys: u64) -> Run<'a> {
        Run { first, last, keys }
    }

    #[test]
    fn numbers_are_counted_on() {
        let space = space("data/", (0..1000).map(|number| format!("data/{number:08}")));
        let seen = run("data/00000000", "data/00000999", 1000);
        let split = space.ahead(seen, "data/00000999", 12_000.0, None).unwrap();
        assert!(("data/00012000".."data/00013001").contains(&split.after.as_str()), "{split:?}");
        assert!(split.beyond.is_infinite());
        let split = space.ahead(seen, "data/00000999", 12_000.0, Some("data/00025")).unwrap();
        assert!((11_000.0..13_100.0).contains(&split.beyond), "{split:?}");
        assert_eq!(space.ahead(seen, "data/00000999", 12_000.0, Some("data/00010")), None);
        // From a place not listed yet, as far again.
        let split = space.ahead(seen, "data/0005", 12_000.0, None).unwrap();
        assert!(("data/00061".."data/00063").contains(&split.after.as_str()), "{split:?}");
    }

    #[test]
    fn hashes_go_on_after_nine() {
        let space = space("", (0..1000).map(|number| format!("{:08x}", number * 0x1_0123)));
        let split = space.ahead(run("00000000", "03e8db08", 1000), "03e8db08", 2000.0, None).unwrap();
        assert!(("0b".."0c").contains(&split.after.as_str()), "{split:?}");
    }

    #[test]
    fn characters_beyond_ascii_are_one_range() {
        let character = |number: u32| char::from_u32(0xD000 + number * 3).unwrap_or('\u{E000}');
        let space = space("图/", (0..1000).map(|number| format!("图/{}", character(number))));
        let last = format!("图/{}", character(500));
        let split = space.ahead(run("图/\u{D000}", &last, 500), &last, 250.0, None).unwrap();
        assert!(split.after.as_str() > last.as_str());
        let far = space.ahead(run("图/\u{D000}", &last, 500), &last, 5000.0, None);
        assert_eq!(far, None, "past the last character seen");
    }

    #[test]
    fn what_one_directory_tells_does_not_hold_for_the_next() {
        let keys = || (0..1000).map(|number| format!("d/n01/n01_{number:03}.jpg"));
        let space = space("d/", keys());
        let last = "d/n01/n01_999.jpg";
        assert_eq!(space.ahead(run("d/n01/n01_000.jpg", last, 1000), last, 3000.0, None), None);
        // After a large one the next is worth a look, whatever its name.
        let split = space.ahead(run("d/n01/n01_000.jpg", last, 5000), last, 3000.0, None).unwrap();
        assert_eq!(split.after, "d/n01/n01`");
    }

    #[test]
    fn a_place_that_ran_through_its_characters_has_no_more() {
        let days = |months: std::ops::Range<u32>| {
            months.flat_map(|month| (1..31).map(move |day| format!("{:02}{day:02}", month + 1)))
        };
        let space = space("", days(0..4));
        let split = space.ahead(run("0101", "0430", 120), "0430", 30.0, None).unwrap();
        // The day's first digit ends with 3.
        assert!(("0527".."0600").contains(&split.after.as_str()), "{split:?}");
    }

    #[test]
    fn the_next_character_after_a_group() {
        let space = KeySpace::new("p/", 1000);
        assert_eq!(space.past_alike("p/9z").unwrap().after, "p/:");
        assert_eq!(space.past_alike("p/\u{D7FF}").unwrap().after, "p/\u{E000}");
        assert_eq!(space.past_alike("p/\u{10FFFF}"), None);
        assert_eq!(space.past_alike("p/"), None);
    }
}
