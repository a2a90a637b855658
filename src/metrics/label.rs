//! Words as label values.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// A word of the API as the value of a label: in lower case, as is the custom there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LowercaseLabel(pub &'static str);

impl EncodeLabelValue for LowercaseLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.chars().try_for_each(|letter| encoder.write_char(letter.to_ascii_lowercase()))
    }
}
