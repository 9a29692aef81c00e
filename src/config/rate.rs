//! Reads a rate. Stands in until `limit` reads its own.

use std::time::Duration;

use crate::limit::Rate;

/// `COUNT/[N]UNIT`; `None` when it is no such text. The burst is one second's worth, at least 1.
pub(super) fn parse(text: &str) -> Option<Rate> {
    let (count, time) = text.split_once('/')?;
    let count: u32 = count.trim().parse().ok().filter(|count| *count >= 1)?;
    let time = time.trim();
    let digits = time.find(|c: char| !c.is_ascii_digit())?;
    let (multiple, unit) = time.split_at(digits);
    let multiple: u64 = if multiple.is_empty() { 1 } else { multiple.parse().ok()? };
    let unit_sec: u64 = match unit.trim() {
        "s" | "sec" => 1,
        "m" | "min" => 60,
        "h" | "hour" => 3_600,
        "d" | "day" => 86_400,
        _ => return None,
    };
    let per_sec = multiple.checked_mul(unit_sec).filter(|sec| *sec >= 1)?;
    let per_second = u64::from(count) / per_sec;
    let burst = u32::try_from(per_second).unwrap_or(u32::MAX).clamp(1, count);
    Some(Rate { count, per: Duration::from_secs(per_sec), burst })
}
