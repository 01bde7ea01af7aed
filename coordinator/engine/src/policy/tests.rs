//! Policies on hand-worked views.
