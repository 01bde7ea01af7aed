//! How flows share a link: max-min fair, capped by what each asks for.

/// Writes each flow's share of `capacity` into `shares`; `demands` and `capacity` in the same unit, not negative.
///
/// Max-min fair: no flow gets more than it asks for, and a flow that gets less gets as much as any other. Flows whose demands
/// all fit get exactly their demands, to the last bit.
pub fn max_min_shares(capacity: f64, demands: &[f64], shares: &mut Vec<f64>) {
    shares.clear();
    shares.extend_from_slice(demands);
    if demands.iter().sum::<f64>() <= capacity {
        return;
    }
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by(|&a, &b| demands[a].total_cmp(&demands[b]));
    let mut left = capacity;
    for (position, &flow) in order.iter().enumerate() {
        let level = left / (order.len() - position) as f64;
        if demands[flow] > level {
            for &flow in &order[position..] {
                shares[flow] = level;
            }
            return;
        }
        left -= demands[flow];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(capacity: f64, demands: &[f64]) -> Vec<f64> {
        let mut shares = Vec::new();
        max_min_shares(capacity, demands, &mut shares);
        shares
    }

    #[test]
    fn by_hand() {
        assert_eq!(shares(10.0, &[]), [0.0; 0]);
        assert_eq!(shares(10.0, &[3.0, 4.0]), [3.0, 4.0]);
        assert_eq!(shares(10.0, &[8.0, 2.0, 7.0]), [4.0, 2.0, 4.0]);
        assert_eq!(shares(9.0, &[8.0, 8.0, 8.0]), [3.0, 3.0, 3.0]);
        assert_eq!(shares(0.0, &[1.0]), [0.0]);
    }

    proptest! {
        #[test]
        fn fair_and_full(
            capacity in 0.0_f64..100.0,
            demands in prop::collection::vec(0.0_f64..60.0, 0..9),
        ) {
            let shares = shares(capacity, &demands);
            let total: f64 = shares.iter().sum();
            let asked: f64 = demands.iter().sum();
            prop_assert!((total - asked.min(capacity)).abs() <= 1e-9 * (1.0 + capacity));
            let largest = shares.iter().copied().fold(0.0, f64::max);
            for (share, demand) in shares.iter().zip(&demands) {
                prop_assert!(share <= demand);
                // Whoever gets less than asked gets as much as anybody.
                prop_assert!(share == demand || (share - largest).abs() <= 1e-9);
            }
        }
    }
}
