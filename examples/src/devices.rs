//! Devices by the names of their backends.

#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
use adamllm::burn::tensor::DeviceKind;
use adamllm::prelude::*;

/// The device of the given name, among the backends that are compiled in.
///
/// # Errors
/// Names the backends that are.
pub fn device(name: &str) -> Result<Device, Box<dyn std::error::Error>> {
    match name {
        #[cfg(feature = "flex")]
        "flex" | "cpu" => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0)),
        #[cfg(feature = "rocm")]
        "rocm" => Ok(Device::rocm(0)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(DeviceKind::DefaultDevice)),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(DeviceKind::DefaultDevice)),
        other => Err(format!("device {other:?} is not compiled in; build with the feature of its name").into()),
    }
}

/// The first `n` devices of a backend; the CPU stands there `n` times.
///
/// # Errors
/// As [`device`].
pub fn devices(name: &str, n: usize) -> Result<Vec<Device>, Box<dyn std::error::Error>> {
    let first = device(name)?;
    let of_index = |_index: usize| match name {
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(_index),
        #[cfg(feature = "rocm")]
        "rocm" => Device::rocm(_index),
        #[cfg(feature = "wgpu")]
        "wgpu" if n > 1 => Device::wgpu(DeviceKind::DiscreteGpu(_index)),
        #[cfg(feature = "vulkan")]
        "vulkan" if n > 1 => Device::vulkan(DeviceKind::DiscreteGpu(_index)),
        _ => first.clone(),
    };
    Ok((0..n).map(of_index).collect())
}
