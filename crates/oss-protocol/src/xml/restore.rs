//! Restoring an archived object.

use super::{Cursor, Writer, XmlError, non_empty};

const ROOT: &str = "RestoreRequest";

/// The body of `RestoreObject`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/restoreobject>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreRequest {
    /// For how many days the restored copy is kept.
    pub days: Option<u32>,
    /// How urgent it is: `Expedited`, `Standard` or `Bulk`.
    pub tier: Option<String>,
}

impl RestoreRequest {
    /// Reads a body. An empty body asks for one day and no tier in particular.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut result = Self::default();
        if body.is_empty() {
            return Ok(result);
        }
        let mut cursor = Cursor::open(body, ROOT)?;
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Days" => result.days = Some(cursor.number("Days")?),
                "JobParameters" => result.read_parameters(&mut cursor)?,
                _ => cursor.skip()?,
            }
        }
        Ok(result)
    }

    fn read_parameters(&mut self, cursor: &mut Cursor<'_>) -> Result<(), XmlError> {
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Tier" => self.tier = non_empty(cursor.text()?),
                _ => cursor.skip()?,
            }
        }
        Ok(())
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(ROOT);
        if let Some(days) = self.days {
            writer.plain("Days", days);
        }
        if let Some(tier) = &self.tier {
            writer.open("JobParameters");
            writer.leaf("Tier", tier);
            writer.close("JobParameters");
        }
        writer.finish(ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip() {
        let request = RestoreRequest { days: Some(2), tier: Some("Standard".to_owned()) };
        assert_eq!(
            request.to_xml(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<RestoreRequest><Days>2</Days><JobParameters><Tier>Standard\
             </Tier></JobParameters></RestoreRequest>"
        );
        assert_eq!(RestoreRequest::parse(request.to_xml().as_bytes()).unwrap(), request);
        assert_eq!(RestoreRequest::parse(b"").unwrap(), RestoreRequest::default());
        assert!(RestoreRequest::parse(b"<RestoreRequest><Days>soon</Days></RestoreRequest>").is_err());
    }
}
