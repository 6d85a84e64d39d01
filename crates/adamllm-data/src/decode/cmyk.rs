/// One channel of Pillow's `convert("RGB")` of CMYK (0 = no ink): the white that black leaves over, less the ink's share
/// of it.
pub(super) fn ink(ink: u8, black: u8) -> u8 {
    let white = 255 - u32::from(black);
    let product = u32::from(ink) * white + 128;
    (white - (((product >> 8) + product) >> 8)) as u8
}
