//! What the policy and the generator share.
