// What a segment's header and table must say: one answer for the side that writes and the side that
// checks. Internal to ipc/.
#pragma once

#include <string>
#include <vector>

#include "ipc/segment.h"

namespace polykv {

inline constexpr uint32_t kSegmentTokensMax = 1u << 24;
inline constexpr uint32_t kSegmentLayersMax = 1024;
inline constexpr uint32_t kSegmentHeadsMax = 256;

// Everything but `bytes` and the checksums.
SegmentHeader header_of(const SegmentSpec& spec);
// The segment as a table, with offsets; sets header.bytes. k_codecs: SegmentSpec's.
std::vector<PlaneEntry> plan_table(SegmentHeader& header,
                                   const std::vector<PlaneCodec>& k_codecs = {});
// Places the planes from entry `first` on anew, for the codecs that the table says; sets
// header.bytes.
void place_planes(SegmentHeader& header, std::vector<PlaneEntry>& table, uint32_t first);
KvShape shape_of(const SegmentHeader& header);
CodecSpec codec_of(const SegmentHeader& header);
uint32_t first_token_of(const SegmentHeader& header, uint32_t layer);
// Adds the K plane to `wide` if its codec is wider than the header's.
void add_if_wide(const SegmentHeader& header, uint32_t layer, uint32_t head, PlaneCodec codec,
                 std::vector<WidePlane>& wide);

// Entry `index` as it must be if its plane is coded with `codec` and starts at `offset`; checksum
// and scale_max are left zero. REQUIRES: a checked header.
PlaneEntry wanted_entry(const SegmentHeader& header, uint32_t index, PlaneCodec codec,
                        uint64_t offset);
PlaneShape plane_shape(const SegmentHeader& header, const PlaneEntry& entry);

uint32_t plane_count(const SegmentHeader& header);
uint64_t align_plane(uint64_t offset);
uint64_t header_checksum(const SegmentHeader& header);
uint64_t table_checksum(const std::vector<PlaneEntry>& table);

// Shape, codecs and modes, without sizes and checksums.
Status check_header_fields(const SegmentHeader& header);
bool codec_fits(PlaneKind kind, PlaneCodec codec);

// "segment: <what> is <value>, wanted <limit>"
std::unexpected<Error> bad_segment(const std::string& what, const std::string& value,
                                   const std::string& limit);

}  // namespace polykv
