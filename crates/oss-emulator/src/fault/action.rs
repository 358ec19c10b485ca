//! The actions of a fault.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::draw::Draw;

/// A wait before the answer, in seconds: `0.05`, or a distribution such as `{"lognormal": [0.03, 0.5]}`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Delay {
    /// The same for every request.
    Fixed(f64),
    /// Uniform between the two.
    Uniform(f64, f64),
    /// Normal: mean and standard deviation. Negative numbers become zero.
    Normal(f64, f64),
    /// Exponential: its mean.
    Exponential(f64),
    /// Lognormal: median, and standard deviation of the logarithm. The latency of a service usually has this form.
    Lognormal(f64, f64),
}

impl Delay {
    pub(super) fn sample(self, draw: &mut Draw) -> Duration {
        let seconds = match self {
            Self::Fixed(seconds) => seconds,
            Self::Uniform(least, most) => least + (most - least) * draw.fraction(),
            Self::Normal(mean, deviation) => mean + deviation * draw.normal(),
            Self::Exponential(mean) => mean * draw.exponential(),
            Self::Lognormal(median, deviation) => median * (deviation * draw.normal()).exp(),
        };
        Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_SECONDS))
    }

    fn parameters(self) -> [f64; 2] {
        match self {
            Self::Fixed(first) | Self::Exponential(first) => [first, first],
            Self::Uniform(first, second) | Self::Normal(first, second) | Self::Lognormal(first, second) => {
                [first, second]
            }
        }
    }

    pub(super) fn is_valid(self) -> bool {
        let ordered = !matches!(self, Self::Uniform(least, most) if least > most);
        ordered && self.parameters().iter().all(|value| (0.0..=LONGEST_SECONDS).contains(value))
    }
}

/// The longest time in a rule: a day. No test takes longer, and every clock can represent it.
pub(super) const LONGEST_SECONDS: f64 = 86_400.0;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Distribution {
    Uniform(f64, f64),
    Normal(f64, f64),
    Exponential(f64),
    Lognormal(f64, f64),
}

impl From<Distribution> for Delay {
    fn from(distribution: Distribution) -> Self {
        match distribution {
            Distribution::Uniform(least, most) => Self::Uniform(least, most),
            Distribution::Normal(mean, deviation) => Self::Normal(mean, deviation),
            Distribution::Exponential(mean) => Self::Exponential(mean),
            Distribution::Lognormal(median, deviation) => Self::Lognormal(median, deviation),
        }
    }
}

impl Serialize for Delay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let distribution = match *self {
            Self::Fixed(seconds) => return serializer.serialize_f64(seconds),
            Self::Uniform(least, most) => Distribution::Uniform(least, most),
            Self::Normal(mean, deviation) => Distribution::Normal(mean, deviation),
            Self::Exponential(mean) => Distribution::Exponential(mean),
            Self::Lognormal(median, deviation) => Distribution::Lognormal(median, deviation),
        };
        distribution.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;

        impl<'de> Visitor<'de> for Seconds {
            type Value = Delay;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("seconds or a distribution such as {\"uniform\": [0.01, 0.1]}")
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Delay, E> {
                Ok(Delay::Fixed(seconds))
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Delay, E> {
                Ok(Delay::Fixed(seconds as f64))
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Delay, E> {
                Ok(Delay::Fixed(seconds as f64))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Delay, A::Error> {
                Distribution::deserialize(de::value::MapAccessDeserializer::new(map)).map(Delay::from)
            }
        }

        deserializer.deserialize_any(Seconds)
    }
}

/// The position in an answer at which a fault acts: `"before"` its first byte, in the
/// `"middle"` of its body, or after a number of bytes of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// Before the first byte of the answer. The request is not executed.
    Before,
    /// After half of the body.
    Middle,
    /// After this many bytes of the body, but before its last byte.
    After(u64),
}

impl Position {
    /// The number of the byte in a body of `size` bytes; `None` if there is no body.
    pub(super) fn within(self, size: u64) -> Option<u64> {
        let last = size.checked_sub(1)?;
        Some(match self {
            Self::Before => 0,
            Self::Middle => size / 2,
            Self::After(bytes) => bytes.min(last),
        })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Before => serializer.serialize_str("before"),
            Self::Middle => serializer.serialize_str("middle"),
            Self::After(bytes) => serializer.serialize_u64(*bytes),
        }
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;

        impl Visitor<'_> for Place {
            type Value = Position;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("\"before\", \"middle\" or a number of bytes")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Position, E> {
                Ok(Position::After(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Position, E> {
                match text {
                    "before" => Ok(Position::Before),
                    "middle" => Ok(Position::Middle),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(Place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_read_and_write_the_same_form() {
        for (text, delay) in [
            ("0.5", Delay::Fixed(0.5)),
            (r#"{"uniform":[0.1,0.2]}"#, Delay::Uniform(0.1, 0.2)),
            (r#"{"normal":[0.1,0.2]}"#, Delay::Normal(0.1, 0.2)),
            (r#"{"exponential":0.1}"#, Delay::Exponential(0.1)),
            (r#"{"lognormal":[0.1,0.2]}"#, Delay::Lognormal(0.1, 0.2)),
        ] {
            assert_eq!(serde_json::from_str::<Delay>(text).unwrap(), delay);
            assert_eq!(serde_json::to_string(&delay).unwrap(), text);
        }
        assert_eq!(serde_json::from_str::<Delay>("2").unwrap(), Delay::Fixed(2.0));
        for text in [r#""soon""#, r#"{"gamma":1}"#, r#"{"uniform":1}"#, "[1,2]"] {
            assert!(serde_json::from_str::<Delay>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn delays_have_bounds() {
        assert!(Delay::Fixed(0.0).is_valid());
        for delay in [Delay::Fixed(-1.0), Delay::Fixed(f64::NAN), Delay::Uniform(2.0, 1.0), Delay::Exponential(1e9)] {
            assert!(!delay.is_valid(), "{delay:?}");
        }
        let mut draw = Draw::new(3);
        for _ in 0..1000 {
            let sampled = Delay::Uniform(0.1, 0.2).sample(&mut draw).as_secs_f64();
            assert!((0.1..0.2).contains(&sampled), "{sampled}");
            Delay::Normal(0.0, 1.0).sample(&mut draw);
            assert!(Delay::Lognormal(86_000.0, 80_000.0).sample(&mut draw).as_secs_f64() <= LONGEST_SECONDS);
        }
    }

    #[test]
    fn positions_stay_inside_the_body() {
        for (position, size, expected) in [
            (Position::Middle, 0, None),
            (Position::Middle, 1, Some(0)),
            (Position::Middle, 9, Some(4)),
            (Position::After(3), 9, Some(3)),
            (Position::After(9), 9, Some(8)),
            (Position::After(0), 9, Some(0)),
        ] {
            assert_eq!(position.within(size), expected, "{position:?} of {size}");
        }
        for (text, position) in [(r#""before""#, Position::Before), (r#""middle""#, Position::Middle)] {
            assert_eq!(serde_json::from_str::<Position>(text).unwrap(), position);
            assert_eq!(serde_json::to_string(&position).unwrap(), text);
        }
        let error = serde_json::from_str::<Position>(r#""late""#).unwrap_err().to_string();
        assert!(error.contains("\"before\", \"middle\" or a number of bytes"), "{error}");
    }
}
