//! Shares in percent, for sentences and for cells of tables.

/// A share in a sentence: `12.3 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", percents(share))
}

/// A share in a sentence that may be far below a percent, as short as it is: `5 %`, `0.1 %`, `0.012 %`.
pub(crate) fn short_percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent > 0.0 && percent < 0.1 {
        format!("{percent:.3} %")
    } else {
        format!("{} %", (percent * 10.0).round() / 10.0)
    }
}

/// A share in a cell whose heading says percent: `12.3`.
pub(crate) fn percents(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_the_digits_that_their_place_has_room_for() {
        assert_eq!(percent(0.12345), "12.3 %");
        assert_eq!(percents(0.12345), "12.3");
        assert_eq!(short_percent(0.05), "5 %");
        assert_eq!(short_percent(0.00012), "0.012 %");
        assert_eq!(short_percent(0.0), "0 %");
    }
}
