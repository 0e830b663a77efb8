//! Durations as Go writes and reads them: `30m`, `1h30m`, `6h0m0s`, `1.5s`.

use std::time::Duration;

/// Reads a duration as Go's `time.ParseDuration` does. Gives `None` if the text is not a duration, or if it is negative
/// or longer than 584 years.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (mut rest, mut nanoseconds) = (text, 0u64);
    loop {
        let (number, unit_and_rest) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, next) = unit_and_rest.split_at(unit_and_rest.find(is_number).unwrap_or(unit_and_rest.len()));
        nanoseconds = nanoseconds.checked_add(of_unit(number, nanoseconds_in(unit)?)?)?;
        if next.is_empty() {
            return Some(Duration::from_nanos(nanoseconds));
        }
        rest = next;
    }
}

fn nanoseconds_in(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // Two different characters that look alike: the micro sign, and the Greek letter mu.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// How many nanoseconds a number of units is. The number may have a fraction.
fn of_unit(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digit =
        |total: Option<u64>, digit: u8| total?.checked_mul(10)?.checked_add(u64::from(digit.checked_sub(b'0')?));
    let mut total = whole.bytes().fold(Some(0), digit)?.checked_mul(unit)?;
    let mut part = unit;
    for digit in fraction.bytes() {
        part /= 10;
        total = total.checked_add(part * u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?))?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::minutes("30m", Some(1_800_000))]
    #[case::hours_and_minutes("1h30m", Some(5_400_000))]
    #[case::as_go_writes_six_hours("6h0m0s", Some(21_600_000))]
    #[case::a_fraction("1.5s", Some(1_500))]
    #[case::a_fraction_without_its_zero(".5h", Some(1_800_000))]
    #[case::a_number_that_ends_with_its_point("1.s", Some(1_000))]
    #[case::milliseconds("250ms", Some(250))]
    #[case::microseconds("1000\u{b5}s", Some(1))]
    #[case::nothing_of_a_unit("0s", Some(0))]
    #[case::zero("0", Some(0))]
    #[case::nothing("", None)]
    #[case::a_number_alone("30", None)]
    #[case::a_unit_alone("m", None)]
    #[case::a_point_alone(".s", None)]
    #[case::two_points("1.2.3s", None)]
    #[case::an_unknown_unit("1d", None)]
    #[case::a_space("1 h", None)]
    #[case::the_past("-1h", None)]
    #[case::something_behind("1h!", None)]
    #[case::longer_than_can_be_counted("99999999999h", None)]
    fn durations(#[case] text: &str, #[case] milliseconds: Option<u64>) {
        assert_eq!(parse(text), milliseconds.map(Duration::from_millis));
    }
}
