//! Tensors as bytes, for the way over a stage boundary.

use tch::{Kind, Tensor};

use crate::device::Device;
use crate::error::Error;

/// How an element of a boundary tensor travels, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 4 bytes; lossless.
    Fp32,
    /// 2 bytes; the upper half of an fp32, rounded to nearest even.
    Bf16,
}

/// Shape of an activation or gradient at a stage boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundaryShape {
    /// Sequences of the micro-batch.
    pub sequences: u32,
    /// Tokens of a sequence.
    pub tokens: u32,
    /// Width of the residual stream, in elements.
    pub hidden: u32,
}

impl Element {
    /// The element of this many bytes.
    ///
    /// # Errors
    /// [`Error::ElementSize`] for anything but 2 and 4.
    pub fn of_size(bytes: u32) -> Result<Self, Error> {
        match bytes {
            4 => Ok(Element::Fp32),
            2 => Ok(Element::Bf16),
            other => Err(Error::ElementSize(other)),
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Element::Fp32 => 4,
            Element::Bf16 => 2,
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Element::Fp32 => Kind::Float,
            Element::Bf16 => Kind::BFloat16,
        }
    }
}

impl BoundaryShape {
    /// Elements of a tensor of this shape.
    pub fn elements(self) -> usize {
        self.sequences as usize * self.tokens as usize * self.hidden as usize
    }

    /// Bytes of a tensor of this shape on its way.
    pub fn bytes(self, element: Element) -> usize {
        self.elements() * element.size()
    }

    pub(crate) fn dimensions(self) -> [i64; 3] {
        [self.sequences, self.tokens, self.hidden].map(i64::from)
    }
}

/// A boundary tensor as bytes in a buffer of its own; see [`write_bytes`].
pub fn to_bytes(tensor: &Tensor, element: Element) -> Vec<u8> {
    let mut bytes = vec![0; tensor.numel() * element.size()];
    write_bytes(tensor, element, &mut bytes).expect("the buffer was made for this tensor");
    bytes
}

/// Writes a boundary tensor's elements, row by row, into a buffer of exactly its size. One copy
/// from a tensor on the CPU, and one more for the conversion to bf16.
///
/// # Errors
/// [`Error::Length`] if the buffer has another size.
pub fn write_bytes(tensor: &Tensor, element: Element, buffer: &mut [u8]) -> Result<(), Error> {
    let elements = tensor.numel();
    let expected = elements * element.size();
    if buffer.len() != expected {
        return Err(Error::Length {
            expected,
            actual: buffer.len(),
        });
    }
    tensor
        .detach()
        .to_device(tch::Device::Cpu)
        .to_kind(element.kind())
        .contiguous()
        .copy_data_u8(buffer, elements);
    Ok(())
}

/// The boundary tensor (sequences, tokens, hidden) on `device` that [`write_bytes`] wrote, in the
/// numbers in which it travelled. One copy on a CPU.
///
/// # Errors
/// [`Error::Length`] if bytes and shape contradict each other, [`Error::WithoutCuda`], [`Error::Cuda`], [`Error::NotInLibtorch`].
pub fn from_bytes(
    bytes: &[u8],
    shape: BoundaryShape,
    element: Element,
    device: Device,
) -> Result<Tensor, Error> {
    let expected = shape.bytes(element);
    if bytes.len() != expected {
        return Err(Error::Length {
            expected,
            actual: bytes.len(),
        });
    }
    let device = device.resolve()?;
    Ok(Tensor::from_data_size(bytes, &shape.dimensions(), element.kind()).to_device(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: BoundaryShape = BoundaryShape {
        sequences: 2,
        tokens: 3,
        hidden: 4,
    };

    fn values() -> Vec<f32> {
        (0..24).map(|index| (index as f32 - 11.5) / 7.0).collect()
    }

    #[test]
    fn fp32_is_lossless_and_little_endian() {
        let tensor = Tensor::from_slice(&values()).view([2, 3, 4]);
        let bytes = to_bytes(&tensor, Element::Fp32);
        let expected: Vec<u8> = values().iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(bytes, expected);
        let back = from_bytes(&bytes, SHAPE, Element::Fp32, Device::Cpu).unwrap();
        assert_eq!(back.size(), [2, 3, 4]);
        assert!(back == tensor);
    }

    #[test]
    fn bf16_is_the_rounded_upper_half() {
        let tensor = Tensor::from_slice(&values()).view([2, 3, 4]);
        let bytes = to_bytes(&tensor, Element::Bf16);
        let back = from_bytes(&bytes, SHAPE, Element::Bf16, Device::Cpu).unwrap();
        for (index, value) in values().into_iter().enumerate() {
            let bits = value.to_bits();
            let rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
            assert_eq!(
                bytes[2 * index..2 * index + 2],
                (rounded as u16).to_le_bytes()
            );
            let (i, j, k) = (index / 12, index / 4 % 3, index % 4);
            let read = back.double_value(&[i as i64, j as i64, k as i64]) as f32;
            assert_eq!(read.to_bits(), rounded << 16);
        }
    }

    #[test]
    fn a_strided_tensor_is_written_row_by_row() {
        let tensor = Tensor::from_slice(&values())
            .view([4, 3, 2])
            .transpose(0, 2);
        let bytes = to_bytes(&tensor, Element::Fp32);
        let back = from_bytes(&bytes, SHAPE, Element::Fp32, Device::Cpu).unwrap();
        assert!(back == tensor);
    }

    #[test]
    fn lengths_that_contradict_the_shape_are_refused() {
        let error = from_bytes(&[0; 95], SHAPE, Element::Fp32, Device::Cpu).unwrap_err();
        assert_eq!(
            error.to_string(),
            "read a boundary tensor: 95 bytes, but its shape needs 96"
        );
        let tensor = Tensor::from_slice(&values());
        assert!(write_bytes(&tensor, Element::Bf16, &mut [0; 47]).is_err());
        assert!(Element::of_size(3).is_err());
    }
}
