//! Documents that are structs with serde's derives.
//!
//! Writing goes through quick-xml's serializer. Reading does not go through its deserializer: that one refuses repeated
//! elements and text around elements, takes `1` for a truth value, does not limit nesting, and reports no element's name.

use std::fmt;

use quick_xml::events::Event;
use quick_xml::se;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer, Serialize, forward_to_deserialize_any};

use super::XmlError;
use super::cursor::{Cursor, boolean, deeper, local_name, number, resolve};
use super::writer::{DECLARATION, push_control};

/// A body that serde reads and writes.
///
/// An element is a field, in the order in which it is written: `#[serde(rename_all = "PascalCase")]`. A `Vec` is one element
/// for each item. An element without content is `None` in an `Option`, unless `deserialize_with =
/// "present"` refuses it; `skip_serializing_if = "Option::is_none"` does not
/// write it. Times need `with = "timestamp"`, and `only_child!` makes a module for an element around one
/// other element.
pub trait Document: Serialize + DeserializeOwned {
    /// The name of the root element.
    const ROOT: &'static str;

    /// The meaning of a body without bytes; `None` if it is refused.
    fn from_nothing() -> Option<Self> {
        None
    }

    /// Refuses a document whose elements contradict each other.
    fn check(&self) -> Result<(), XmlError> {
        Ok(())
    }

    /// Reads a body.
    fn parse(body: &[u8]) -> Result<Self, XmlError> {
        if body.is_empty()
            && let Some(document) = Self::from_nothing()
        {
            return Ok(document);
        }
        let document =
            Self::deserialize(Elements { name: Self::ROOT, elements: vec![Element::open(body, Self::ROOT)?] })?;
        document.check()?;
        Ok(document)
    }

    /// Writes a body.
    fn to_xml(&self) -> String {
        let mut out = Escaping(String::from(DECLARATION));
        let written = se::Serializer::with_root(&mut out, Some(Self::ROOT)).and_then(|mut serializer| {
            serializer.expand_empty_elements(true);
            self.serialize(serializer)
        });
        match written {
            Ok(_) => out.0,
            Err(error) => unreachable!("<{}> is a struct of elements: {error}", Self::ROOT),
        }
    }
}

/// Text to which control characters are added as references. Markup contains none.
struct Escaping(String);

impl fmt::Write for Escaping {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(|character: char| character.is_ascii_control()) {
            let plain = piece.trim_end_matches(|character: char| character.is_ascii_control());
            self.0.push_str(plain);
            piece[plain.len()..].chars().for_each(|control| push_control(&mut self.0, control));
        }
        Ok(())
    }
}

/// An element and everything in it.
struct Element {
    name: String,
    /// The text. A broken one matters only if somebody reads it.
    text: Result<String, XmlError>,
    children: Vec<Self>,
}

impl Element {
    fn open(body: &[u8], root: &'static str) -> Result<Self, XmlError> {
        Self::read(&mut Cursor::open(body, root)?, String::new(), 0)
    }

    /// Reads the rest of the element that the cursor has just entered.
    fn read(cursor: &mut Cursor<'_>, name: String, depth: usize) -> Result<Self, XmlError> {
        let mut element = Self { name, text: Ok(String::new()), children: Vec::new() };
        loop {
            let piece = match cursor.event()? {
                Event::Start(start) => {
                    element.children.push(Self::read(cursor, local_name(&start).to_owned(), deeper(depth)?)?);
                    continue;
                }
                Event::Text(text) => Ok(text.into_inner()),
                Event::CData(text) => Ok(text.into_inner()),
                Event::GeneralRef(reference) => resolve(&reference),
                Event::End(_) => return Ok(element),
                Event::Eof => return Err(XmlError::Truncated),
                _ => continue,
            };
            element.text = element.text.and_then(|text| Ok(text + &piece?));
        }
    }
}

/// All elements of one name in one other element, which are one field. A list has an item for each, a struct has the fields
/// of all together, and anything else has the value of the last.
struct Elements {
    name: &'static str,
    elements: Vec<Element>,
}

impl Elements {
    /// The value of the last element. The others must be valid, too.
    fn value<T>(self, read: impl Fn(String, &'static str) -> Result<T, XmlError>) -> Result<T, XmlError> {
        let mut value = Err(XmlError::Missing { element: self.name });
        for element in self.elements {
            value = Ok(read(element.text?, self.name)?);
        }
        value
    }
}

impl<'de> Deserializer<'de> for Elements {
    type Error = XmlError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XmlError> {
        let name = self.name;
        visitor.visit_string(self.value(|text, _| Ok(text))?).map_err(|error| match error {
            XmlError::Malformed { reason } => XmlError::Malformed { reason: format!("<{name}>: {reason}") },
            other => other,
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XmlError> {
        visitor.visit_bool(self.value(|text, name| boolean(&text, name))?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XmlError> {
        visitor.visit_u32(self.value(|text, name| number(&text, name))?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XmlError> {
        visitor.visit_u64(self.value(|text, name| number(&text, name))?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XmlError> {
        match self.elements.last() {
            Some(element) if element.children.is_empty() && element.text.as_deref() == Ok("") => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XmlError> {
        let name = self.name;
        visitor.visit_seq(SeqDeserializer::new(
            self.elements.into_iter().map(|element| Self { name, elements: vec![element] }),
        ))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, XmlError> {
        let mut groups: Vec<Self> = Vec::new();
        for child in self.elements.into_iter().flat_map(|element| element.children) {
            match groups.iter_mut().find(|group| group.name == child.name) {
                Some(group) => group.elements.push(child),
                None => {
                    let known = fields.iter().find(|field| **field == child.name);
                    groups.extend(known.map(|name| Self { name, elements: vec![child] }));
                }
            }
        }
        visitor.visit_map(MapDeserializer::new(groups.into_iter().map(|group| (group.name, group))))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, XmlError> for Elements {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl de::Error for XmlError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Malformed { reason: message.to_string() }
    }

    fn missing_field(element: &'static str) -> Self {
        Self::Missing { element }
    }
}

/// For `#[serde(deserialize_with = "present")]`: an element that may be left out but must have content, such as a number.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Times as text, for `#[serde(with = "timestamp")]`.
pub(super) mod timestamp {
    use std::time::SystemTime;

    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    use super::super::cursor::TIMESTAMP;
    use crate::time::{format_xml_timestamp, parse_xml_timestamp};

    struct Timestamp;

    impl Visitor<'_> for Timestamp {
        type Value = SystemTime;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str(TIMESTAMP)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<SystemTime, E> {
            parse_xml_timestamp(text.trim()).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    pub(in crate::xml) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        deserializer.deserialize_str(Timestamp)
    }

    pub(in crate::xml) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_xml_timestamp(*time))
    }
}

/// Makes a module for `#[serde(with = "…")]`: the field is the only element in an element, `<Outer><Only>…</Only></Outer>`.
macro_rules! only_child {
    ($module:ident, $element:literal) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            #[derive(Deserialize, Serialize)]
            struct Outer<T> {
                #[serde(rename = $element, default)]
                only: T,
            }

            pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
            where
                T: Default + Deserialize<'de>,
                D: Deserializer<'de>,
            {
                Outer::deserialize(deserializer).map(|outer| outer.only)
            }

            pub(super) fn serialize<T: Serialize, S: Serializer>(only: T, serializer: S) -> Result<S::Ok, S::Error> {
                Outer { only }.serialize(serializer)
            }
        }
    };
}
pub(super) use only_child;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde::Deserialize;

    use super::*;

    only_child!(item_elements, "Item");

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Sample {
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        number: Option<u32>,
        truth: bool,
        #[serde(rename = "Items", with = "item_elements")]
        items: Vec<Item>,
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Item {
        key: String,
        #[serde(with = "timestamp")]
        time: SystemTime,
    }

    impl Document for Sample {
        const ROOT: &'static str = "Sample";
    }

    fn parse(elements: &str) -> Result<Sample, XmlError> {
        Sample::parse(format!("<Sample>{elements}</Sample>").as_bytes())
    }

    fn text(text: &str) -> Sample {
        Sample { text: Some(text.to_owned()), ..Sample::default() }
    }

    #[test]
    fn a_document_reads_what_it_wrote() {
        let item = |key: &str| Item { key: key.to_owned(), time: SystemTime::UNIX_EPOCH };
        let sample = Sample {
            number: Some(5),
            truth: true,
            items: vec![item(""), item(" k ")],
            ..text("a<b>&\"c'\r\n\u{1}数\u{7f}")
        };
        let xml = sample.to_xml();
        assert_eq!(
            xml,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Sample><Text>a&lt;b&gt;&amp;\"c'&#13;&#10;&#1;数&#127;</Text>\
             <Number>5</Number><Truth>true</Truth><Items><Item><Key></Key><Time>1970-01-01T00:00:00.000Z</Time></Item>\
             <Item><Key> k </Key><Time>1970-01-01T00:00:00.000Z</Time></Item></Items></Sample>"
        );
        assert_eq!(Sample::parse(xml.as_bytes()).unwrap(), sample);
    }

    #[test]
    fn the_form_of_elements_does_not_matter() {
        assert_eq!(parse("<X><Y>&unknown;</Y></X>").unwrap(), Sample::default());
        assert_eq!(parse("<Text/><Items/>").unwrap(), Sample::default());
        assert_eq!(
            parse("a<o:Text xmlns:o='x'> b<X>no</X><![CDATA[<]]>&gt;<!-- no --> </o:Text>").unwrap(),
            text(" b<> ")
        );
        assert_eq!(parse("<Text>a</Text><X/><Text>b</Text>").unwrap(), text("b"));
        let item = "<Item><Time>1970-01-01T00:00:00.000Z</Time><Key>k</Key></Item>";
        let lists = format!("<Items>{item}<X/>{item}</Items><Truth> true </Truth><Items>{item}</Items>");
        assert_eq!(parse(&lists).unwrap().items.len(), 3);
    }

    #[test]
    fn wrong_elements_are_refused_by_name() {
        let missing = |element| Err(XmlError::Missing { element });
        let invalid =
            |element, value: &str, expected| Err(XmlError::Invalid { element, value: value.to_owned(), expected });
        assert_eq!(parse("<Items><Item><Key>k</Key></Item></Items>"), missing("Time"));
        assert_eq!(parse("<Number/>"), invalid("Number", "", "a whole number in range"));
        assert_eq!(parse("<Number>4294967296</Number>"), invalid("Number", "4294967296", "a whole number in range"));
        assert_eq!(parse("<Number>x</Number><Number>1</Number>"), invalid("Number", "x", "a whole number in range"));
        assert_eq!(parse("<Truth>1</Truth>"), invalid("Truth", "1", "true or false"));
        let error = parse("<Items><Item><Key>k</Key><Time>now</Time></Item></Items>").unwrap_err().to_string();
        assert!(error.contains("<Time>: invalid value: string \"now\", expected a timestamp"), "{error}");
    }

    #[test]
    fn wrong_bodies_are_refused() {
        assert!(matches!(Sample::parse(b"<Other/>"), Err(XmlError::UnexpectedRoot { expected: "Sample", .. })));
        assert_eq!(Sample::parse(b""), Err(XmlError::Truncated));
        assert_eq!(Sample::parse(b"<Sample><Text>"), Err(XmlError::Truncated));
        assert!(matches!(parse(&"<X>".repeat(100_000)), Err(XmlError::Malformed { reason }) if reason.contains("64")));
        assert!(matches!(parse("<Text>&unknown;</Text>"), Err(XmlError::Malformed { .. })));
        let entity = b"<!DOCTYPE R [<!ENTITY a \"aaaa\">]><Sample><Text>&a;</Text></Sample>";
        assert!(matches!(Sample::parse(entity), Err(XmlError::Malformed { .. })));
    }
}
