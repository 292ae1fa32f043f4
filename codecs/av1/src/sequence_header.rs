//! The sequence header (AV1 5.5).
//!
//! In: the payload of a sequence header OBU. Out: profile, level, picture size and colour; the
//! coding tools in between are read to get past them and dropped.

use crate::Error;
use crate::bits::BitReader;

/// What a sequence header says, named as in the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceHeader {
    /// seq_profile: 0 Main, 1 High, 2 Professional.
    pub profile: u8,
    /// reduced_still_picture_header: every frame is a shown key frame.
    pub reduced_still_picture_header: bool,
    /// seq_level_idx of the first operating point; 31 says that no level's limits are promised.
    pub level: u8,
    /// seq_tier of the first operating point: high tier.
    pub high_tier: bool,
    /// initial_display_delay_minus_1 of the first operating point, where present.
    pub initial_display_delay_minus_1: Option<u8>,
    /// max_frame_width_minus_1 + 1.
    pub max_frame_width: u32,
    /// max_frame_height_minus_1 + 1.
    pub max_frame_height: u32,
    /// color_config.
    pub colour: Colour,
    /// film_grain_params_present.
    pub film_grain: bool,
}

/// color_config, AV1 5.5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// BitDepth: 8, 10 or 12.
    pub bit_depth: u8,
    /// mono_chrome.
    pub monochrome: bool,
    /// subsampling_x and subsampling_y.
    pub subsampling: ChromaSubsampling,
    /// chroma_sample_position: 0 unknown, 1 left, 2 top left.
    pub chroma_sample_position: u8,
    /// Whether the next three were sent; otherwise they are 2, "unspecified".
    pub description_present: bool,
    /// color_primaries (ISO/IEC 23091-2).
    pub primaries: u8,
    /// transfer_characteristics.
    pub transfer: u8,
    /// matrix_coefficients.
    pub matrix: u8,
    /// color_range: full.
    pub full_range: bool,
}

/// How many luma samples share one chroma sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChromaSubsampling {
    /// 4:4:4
    None,
    /// 4:2:2
    Horizontal,
    /// 4:2:0, and what monochrome sets.
    Both,
}

impl ChromaSubsampling {
    /// subsampling_x.
    #[must_use]
    pub fn x(self) -> bool {
        self != Self::None
    }

    /// subsampling_y.
    #[must_use]
    pub fn y(self) -> bool {
        self == Self::Both
    }
}

impl SequenceHeader {
    /// Reads the payload of a sequence header OBU.
    ///
    /// # Errors
    /// The sender's fault, by name.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = BitReader::new(payload);
        let profile = reader.read_u8(3)?;
        if profile > 2 {
            return Err(Error::Profile(profile));
        }
        // still_picture
        reader.flag()?;
        let reduced = reader.flag()?;
        let point = if reduced {
            OperatingPoint { level: reader.read_u8(5)?, ..OperatingPoint::default() }
        } else {
            read_operating_points(&mut reader)?
        };
        let width_bits = reader.read(4)? + 1;
        let height_bits = reader.read(4)? + 1;
        let max_frame_width = reader.read(width_bits)? + 1;
        let max_frame_height = reader.read(height_bits)? + 1;
        if !reduced && reader.flag()? {
            // delta_frame_id_length_minus_2, additional_frame_id_length_minus_1
            reader.read(4 + 3)?;
        }
        skip_tools(&mut reader, reduced)?;
        Ok(Self {
            profile,
            reduced_still_picture_header: reduced,
            level: point.level,
            high_tier: point.high_tier,
            initial_display_delay_minus_1: point.initial_display_delay_minus_1,
            max_frame_width,
            max_frame_height,
            colour: read_colour(&mut reader, profile)?,
            film_grain: reader.flag()?,
        })
    }

    /// The codec string of the AV1 file format binding, section 5: `av01.P.LLT.DD`, and the
    /// optional rest where it differs from what is assumed without it (4:2:0, BT.709, limited
    /// range). Colour that is unspecified is left to that assumption, as players do.
    #[must_use]
    pub fn codec_string(&self) -> String {
        let Colour { bit_depth, monochrome, subsampling, primaries, transfer, matrix, .. } =
            self.colour;
        let tier = if self.high_tier { 'H' } else { 'M' };
        let short = format!("av01.{}.{:02}{tier}.{bit_depth:02}", self.profile, self.level);
        let usual = matches!(
            (primaries, transfer, matrix, self.colour.full_range),
            (1, 1, 1, false) | (UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, false)
        );
        let assumed = usual && !monochrome && subsampling == ChromaSubsampling::Both;
        if assumed {
            return short;
        }
        format!(
            "{short}.{}.{}{}{}.{primaries:02}.{transfer:02}.{matrix:02}.{}",
            u8::from(monochrome),
            u8::from(subsampling.x()),
            u8::from(subsampling.y()),
            self.colour.chroma_sample_position,
            u8::from(self.colour.full_range),
        )
    }
}

#[derive(Default)]
struct OperatingPoint {
    level: u8,
    high_tier: bool,
    initial_display_delay_minus_1: Option<u8>,
}

/// From timing_info_present_flag to the end of the operating points; returns the first.
fn read_operating_points(reader: &mut BitReader<'_>) -> Result<OperatingPoint, Error> {
    let mut buffer_delay_bits = None;
    if reader.flag()? {
        // num_units_in_display_tick, time_scale
        reader.read(32)?;
        reader.read(32)?;
        if reader.flag()? {
            // num_ticks_per_picture_minus_1
            reader.uvlc()?;
        }
        if reader.flag()? {
            // decoder_model_info, 5.5.4
            buffer_delay_bits = Some(reader.read(5)? + 1);
            reader.read(32)?;
            reader.read(5 + 5)?;
        }
    }
    let initial_display_delay_present = reader.flag()?;
    let count = reader.read(5)? + 1;
    let mut first = None;
    for _ in 0..count {
        // operating_point_idc
        reader.read(12)?;
        let level = reader.read_u8(5)?;
        let high_tier = level > 7 && reader.flag()?;
        if let Some(bits) = buffer_delay_bits
            && reader.flag()?
        {
            // decoder_buffer_delay, encoder_buffer_delay, low_delay_mode_flag
            reader.read(bits)?;
            reader.read(bits)?;
            reader.flag()?;
        }
        let delayed = initial_display_delay_present && reader.flag()?;
        let initial_display_delay_minus_1 = if delayed { Some(reader.read_u8(4)?) } else { None };
        first.get_or_insert(OperatingPoint { level, high_tier, initial_display_delay_minus_1 });
    }
    Ok(first.unwrap_or_default())
}

/// From use_128x128_superblock to enable_restoration.
fn skip_tools(reader: &mut BitReader<'_>, reduced: bool) -> Result<(), Error> {
    // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
    reader.read(3)?;
    if !reduced {
        // enable_interintra_compound, enable_masked_compound, enable_warped_motion,
        // enable_dual_filter
        reader.read(4)?;
        let enable_order_hint = reader.flag()?;
        if enable_order_hint {
            // enable_jnt_comp, enable_ref_frame_mvs
            reader.read(2)?;
        }
        let seq_choose_screen_content_tools = reader.flag()?;
        let screen_content_tools = seq_choose_screen_content_tools || reader.flag()?;
        if screen_content_tools {
            let seq_choose_integer_mv = reader.flag()?;
            if !seq_choose_integer_mv {
                // seq_force_integer_mv
                reader.flag()?;
            }
        }
        if enable_order_hint {
            // order_hint_bits_minus_1
            reader.read(3)?;
        }
    }
    // enable_superres, enable_cdef, enable_restoration
    reader.read(3)?;
    Ok(())
}

fn read_colour(reader: &mut BitReader<'_>, profile: u8) -> Result<Colour, Error> {
    let high_bitdepth = reader.flag()?;
    let twelve_bit = profile == 2 && high_bitdepth && reader.flag()?;
    let bit_depth = match (high_bitdepth, twelve_bit) {
        (_, true) => 12,
        (true, false) => 10,
        (false, false) => 8,
    };
    let monochrome = profile != 1 && reader.flag()?;
    let description_present = reader.flag()?;
    let (primaries, transfer, matrix) = if description_present {
        (reader.read_u8(8)?, reader.read_u8(8)?, reader.read_u8(8)?)
    } else {
        (UNSPECIFIED, UNSPECIFIED, UNSPECIFIED)
    };
    let mut colour = Colour {
        bit_depth,
        monochrome,
        subsampling: ChromaSubsampling::Both,
        chroma_sample_position: 0,
        description_present,
        primaries,
        transfer,
        matrix,
        full_range: false,
    };
    if monochrome {
        colour.full_range = reader.flag()?;
        return Ok(colour);
    }
    if (primaries, transfer, matrix) == SRGB {
        colour.full_range = true;
        colour.subsampling = ChromaSubsampling::None;
    } else {
        colour.full_range = reader.flag()?;
        colour.subsampling = match profile {
            0 => ChromaSubsampling::Both,
            1 => ChromaSubsampling::None,
            _ if bit_depth < 12 => ChromaSubsampling::Horizontal,
            _ if !reader.flag()? => ChromaSubsampling::None,
            _ if !reader.flag()? => ChromaSubsampling::Horizontal,
            _ => ChromaSubsampling::Both,
        };
        if colour.subsampling == ChromaSubsampling::Both {
            colour.chroma_sample_position = reader.read_u8(2)?;
        }
    }
    // separate_uv_delta_q
    reader.flag()?;
    Ok(colour)
}

/// CP_UNSPECIFIED, TC_UNSPECIFIED, MC_UNSPECIFIED.
const UNSPECIFIED: u8 = 2;
/// CP_BT_709, TC_SRGB, MC_IDENTITY.
const SRGB: (u8, u8, u8) = (1, 13, 0);
