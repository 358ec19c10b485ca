//! Storage classes. They decide the cost of an object and whether it can be read at once.

/// A storage class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum StorageClass {
    #[default]
    Standard,
    InfrequentAccess,
    Archive,
    ColdArchive,
    DeepColdArchive,
}

impl StorageClass {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "Standard" => Some(Self::Standard),
            "IA" => Some(Self::InfrequentAccess),
            "Archive" => Some(Self::Archive),
            "ColdArchive" => Some(Self::ColdArchive),
            "DeepColdArchive" => Some(Self::DeepColdArchive),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::InfrequentAccess => "IA",
            Self::Archive => "Archive",
            Self::ColdArchive => "ColdArchive",
            Self::DeepColdArchive => "DeepColdArchive",
        }
    }

    /// Whether objects of the class must be restored before they can be read.
    pub(crate) fn is_archive(self) -> bool {
        matches!(self, Self::Archive | Self::ColdArchive | Self::DeepColdArchive)
    }
}
