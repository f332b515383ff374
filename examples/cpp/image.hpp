// Images: JPEG and PNG files in, Pillow's resize, PNG files with a palette out.
#pragma once
#include <cstdio>  // before jpeglib.h, which needs it
#include <jpeglib.h>
#include <png.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

using Bytes = std::vector<std::uint8_t>;

struct Image {
    std::size_t height, width;
    Bytes rgb;  // [height, width, 3]
};

inline Image read_image(const std::string& path) {
    png_image png{nullptr, PNG_IMAGE_VERSION};
    if (png_image_begin_read_from_file(&png, path.c_str())) {
        png.format = PNG_FORMAT_RGB;
        Image image{png.height, png.width, Bytes(PNG_IMAGE_SIZE(png))};
        if (png_image_finish_read(&png, nullptr, image.rgb.data(), 0, nullptr)) return image;
        throw std::runtime_error(path + ": " + png.message);
    }
    FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) throw std::runtime_error(path + ": cannot be opened");
    jpeg_decompress_struct jpeg;
    jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);  // of a damaged file it ends the program, with a message
    jpeg_create_decompress(&jpeg);
    jpeg_stdio_src(&jpeg, file);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    Image image{jpeg.output_height, jpeg.output_width, Bytes(std::size_t(3) * jpeg.output_height * jpeg.output_width)};
    while (jpeg.output_scanline < jpeg.output_height) {
        auto* row = image.rgb.data() + jpeg.output_scanline * 3 * image.width;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_destroy_decompress(&jpeg);
    std::fclose(file);
    return image;
}

// Resizes the middle axis of [outer, from, inner] to `to`: bilinear, antialiased, in Pillow's fixed point of 22 bits.
inline Bytes resized(const Bytes& pixels, std::size_t outer, std::size_t from, std::size_t to, std::size_t inner) {
    if (from == to) return pixels;
    Bytes out(outer * to * inner);
    const double scale = double(from) / to, support = std::max(scale, 1.0), inverse = 1 / support;
    for (std::size_t place = 0; place < to; ++place) {
        const double centre = (place + 0.5) * scale;
        const std::size_t first = std::max(0.0, centre - support + 0.5);
        std::vector<double> taps(std::size_t(std::min<double>(from, centre + support + 0.5)) - first);
        for (std::size_t k = 0; k < taps.size(); ++k)
            taps[k] = std::max(0.0, 1 - std::abs((first + k - centre + 0.5) * inverse));
        const double total = std::accumulate(taps.begin(), taps.end(), 0.0);
        for (auto& tap : taps) tap = std::floor(tap / total * (1 << 22) + 0.5);
        for (std::size_t at = 0; at < outer * inner; ++at) {
            const auto* pixel = &pixels[(at / inner * from + first) * inner + at % inner];
            double sum = 1 << 21;
            for (std::size_t k = 0; k < taps.size(); ++k) sum += taps[k] * pixel[k * inner];
            out[(at / inner * to + place) * inner + at % inner] = std::uint8_t(sum / (1 << 22));
        }
    }
    return out;
}

inline void write_indexed(const std::string& path, const Image& size, const Bytes& ids, const Bytes& palette) {
    png_image png{nullptr, PNG_IMAGE_VERSION};
    png.width = size.width, png.height = size.height, png.format = PNG_FORMAT_RGB_COLORMAP, png.colormap_entries = 256;
    if (!png_image_write_to_file(&png, path.c_str(), 0, ids.data(), 0, palette.data()))
        throw std::runtime_error(path + ": " + png.message);
}
