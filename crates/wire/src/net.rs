//! The protocol of gantryd and `gantry-netd`.
