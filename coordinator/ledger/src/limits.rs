//! Names and bounds of a run's files.

/// The ledger's name in a run folder.
pub const LEDGER_FILE: &str = "ledger.jsonl";

/// The name in a run folder of the scenario as it was read.
pub const SCENARIO_FILE: &str = "scenario.toml";

/// The name in a run folder of the profile that compute was predicted from, as it was read.
pub const PROFILE_FILE: &str = "profile.toml";

/// The summary's name in a run folder.
pub const SUMMARY_FILE: &str = "summary.json";

/// Longest line of a ledger, its end included. A header that names 100,000 jobs takes 2 MB; the bound keeps a
/// reader's memory small on a file that is no ledger.
pub const MAX_LINE_BYTES: usize = 16 << 20;
