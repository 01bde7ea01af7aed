//! A job's path as people read it.

/// Regions in pipeline order with the GPUs taken in each, such as `north×2 → south×4`; a region without GPUs is
/// its name alone.
pub fn path_text<'a>(parts: impl IntoIterator<Item = (&'a str, u32)>) -> String {
    let parts: Vec<_> = parts
        .into_iter()
        .map(|(region, gpus)| {
            if gpus == 0 {
                region.to_owned()
            } else {
                format!("{region}×{gpus}")
            }
        })
        .collect();
    parts.join(" → ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_regions_and_the_gpus_they_give() {
        assert_eq!(path_text([("north", 2), ("south", 4)]), "north×2 → south×4");
        assert_eq!(path_text([("north", 0)]), "north");
        assert_eq!(path_text([]), "");
    }
}
