//! Storage classes, which decide the cost of an object and whether it can be read at once, and the redundancy of buckets.

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

/// How a bucket keeps bytes, which never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Placement {
    /// That of objects that name none.
    pub(crate) storage_class: StorageClass,
    pub(crate) redundancy: Redundancy,
}

/// How many zones keep the bytes of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Redundancy {
    /// One zone, `LRS`.
    #[default]
    Local,
    /// Several zones, `ZRS`.
    Zones,
}

impl Redundancy {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "LRS" => Some(Self::Local),
            "ZRS" => Some(Self::Zones),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "LRS",
            Self::Zones => "ZRS",
        }
    }
}
