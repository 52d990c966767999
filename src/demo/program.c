/*
 * One of the demo's programs. It is compiled many times, with another NUMBER each, against
 * whatever liblzma the virtual path showed on that day, and never again.
 *
 * Without an argument it reports once. With one, it reports for every line on its standard input
 * and ends with it.
 */
#include <lzma.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { SIZE = 16 * 1024 };

static uint8_t original[SIZE];
static uint8_t packed[2 * SIZE];
static uint8_t unpacked[SIZE];

/* Letters that repeat, but not in a pattern: a compressor has something to do. */
static void fill(void)
{
	uint32_t state = NUMBER;
	for (size_t i = 0; i < SIZE; i++) {
		state = state * 1664525u + 1013904223u;
		original[i] = (uint8_t)('a' + (state >> 24) % 7);
	}
}

static size_t pack(void)
{
	lzma_stream stream = LZMA_STREAM_INIT;
	if (lzma_easy_encoder(&stream, 0, LZMA_CHECK_CRC64) != LZMA_OK)
		return 0;
	stream.next_in = original;
	stream.avail_in = SIZE;
	stream.next_out = packed;
	stream.avail_out = sizeof packed;
	lzma_ret end = lzma_code(&stream, LZMA_FINISH);
	size_t length = sizeof packed - stream.avail_out;
	lzma_end(&stream);
	return end == LZMA_STREAM_END ? length : 0;
}

static size_t unpack(size_t length)
{
	lzma_stream stream = LZMA_STREAM_INIT;
	if (lzma_stream_decoder(&stream, UINT64_MAX, 0) != LZMA_OK)
		return 0;
	stream.next_in = packed;
	stream.avail_in = length;
	stream.next_out = unpacked;
	stream.avail_out = sizeof unpacked;
	lzma_ret end = lzma_code(&stream, LZMA_FINISH);
	size_t size = sizeof unpacked - stream.avail_out;
	lzma_end(&stream);
	return end == LZMA_STREAM_END ? size : 0;
}

static int report(void)
{
	memset(unpacked, 0, sizeof unpacked);
	size_t length = pack();
	size_t size = length == 0 ? 0 : unpack(length);
	int equal = size == SIZE && memcmp(original, unpacked, SIZE) == 0;
	printf("program %d: built with %s, runs with %s, packed %d bytes to %zu and back: %s\n",
	       NUMBER, LZMA_VERSION_STRING, lzma_version_string(), SIZE, length,
	       equal ? "equal" : "DIFFERENT");
	return fflush(stdout) == 0 && equal ? 0 : 1;
}

int main(int argc, char **argv)
{
	char line[16];
	(void)argv;
	fill();
	if (argc < 2)
		return report();
	while (fgets(line, sizeof line, stdin) != NULL)
		if (report() != 0)
			return 1;
	return 0;
}
