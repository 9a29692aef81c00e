//! Five priorities, strict: nothing of a lower one starts while a higher one may.

use std::fmt;
use std::str::FromStr;

/// How urgent a job is; the smaller, the sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Before everything else (0).
    Critical,
    /// Before the usual (1).
    High,
    /// The usual (2).
    #[default]
    Normal,
    /// After the usual (3).
    Low,
    /// When nothing else is there (4).
    Background,
}

/// A text or number that is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no priority: expected critical, high, normal, low, background or 0 to 4")]
pub struct PriorityError(pub String);

impl Priority {
    /// Every priority, most urgent first.
    pub const ALL: [Priority; 5] =
        [Priority::Critical, Priority::High, Priority::Normal, Priority::Low, Priority::Background];

    /// 0 (critical) to 4 (background).
    #[must_use]
    pub fn level(self) -> u8 {
        match self {
            Priority::Critical => 0,
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3,
            Priority::Background => 4,
        }
    }

    /// The priority of that level, or `None` above 4.
    #[must_use]
    pub fn from_level(level: u8) -> Option<Priority> {
        Priority::ALL.get(usize::from(level)).copied()
    }

    /// The name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
            Priority::Background => "background",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Priority {
    type Err = PriorityError;

    fn from_str(text: &str) -> Result<Priority, PriorityError> {
        Priority::ALL
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(text) || text == p.level().to_string())
            .ok_or_else(|| PriorityError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_priorities_by_name_and_by_number() {
        for (level, priority) in (0_u8..).zip(Priority::ALL) {
            assert_eq!(priority.level(), level);
            assert_eq!(Priority::from_level(level), Some(priority));
            assert_eq!(priority.name().parse(), Ok(priority));
            assert_eq!(level.to_string().parse(), Ok(priority));
        }
        assert_eq!(Priority::from_level(5), None);
        assert_eq!("HIGH".parse(), Ok(Priority::High));
        for bad in ["", "5", "-1", "urgent", "00", " high"] {
            assert_eq!(bad.parse::<Priority>(), Err(PriorityError(bad.to_owned())));
        }
        assert!(Priority::Critical < Priority::Background);
        assert_eq!(Priority::default(), Priority::Normal);
    }
}
