//! Programs as text, for golden files and people.

use bace_api::Program;

/// One line a stage: every action with the stage's index in front, such as `2F0` and `3B1`.
pub fn program_text(program: &Program) -> String {
    let mut text = String::new();
    for (index, stage) in program.stages.iter().enumerate() {
        let actions: Vec<String> = stage
            .iter()
            .map(|action| format!("{index}{action}"))
            .collect();
        text.push_str(&actions.join(" "));
        text.push('\n');
    }
    text
}
