/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A small x86-64 ELF file with an .eh_frame of one's own, for tests. */
#ifndef APERTURE_TESTS_ELF_IMAGE_H
#define APERTURE_TESTS_ELF_IMAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define IMAGE_SZ    8192
#define IMAGE_VADDR 0x10000u /* of byte 0 */
#define IMAGE_HDR   0x1e0u   /* .eh_frame_hdr; offsets in the file */
#define IMAGE_EH    0x200u   /* .eh_frame */
#define IMAGE_CODE  0x1000u

struct image {
    uint8_t data[IMAGE_SZ];
    size_t pos; /* end of .eh_frame so far */
};

static inline void image_put(struct image *image, const void *bytes, size_t len)
{
    assert_true(image->pos + len <= IMAGE_CODE);
    memcpy(image->data + image->pos, bytes, len);
    image->pos += len;
}

static inline void image_put32(struct image *image, uint32_t value)
{
    image_put(image, &value, sizeof(value));
}

static inline void image_begin(struct image *image)
{
    Elf64_Ehdr head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                       .e_type = ET_DYN,
                       .e_machine = EM_X86_64,
                       .e_phoff = sizeof(Elf64_Ehdr),
                       .e_phnum = 2};
    Elf64_Phdr segments[2] = {
        {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = IMAGE_VADDR, .p_filesz = IMAGE_SZ, .p_memsz = IMAGE_SZ},
        {.p_type = PT_GNU_EH_FRAME,
         .p_offset = IMAGE_HDR,
         .p_vaddr = IMAGE_VADDR + IMAGE_HDR,
         .p_filesz = 12,
         .p_memsz = 12}};
    /* version, encodings (pcrel sdata4, none, none), address of .eh_frame */
    const uint8_t hdr[] = {1, 0x1b, 0xff, 0xff};
    int32_t to_eh = (int32_t)(IMAGE_EH - (IMAGE_HDR + 4));

    memset(image, 0, sizeof(*image));
    memcpy(image->data, &head, sizeof(head));
    memcpy(image->data + sizeof(head), segments, sizeof(segments));
    memcpy(image->data + IMAGE_HDR, hdr, sizeof(hdr));
    memcpy(image->data + IMAGE_HDR + 4, &to_eh, sizeof(to_eh));
    image->pos = IMAGE_EH;
}

/* Ends the entry that began at `start` with a length to be filled in. */
static inline void image_end_entry(struct image *image, size_t start)
{
    uint32_t len;

    while ((image->pos - start) % 8)
        image->data[image->pos++] = 0; /* DW_CFA_nop */
    len = (uint32_t)(image->pos - start - 4);
    memcpy(image->data + start, &len, sizeof(len));
}

/* A CIE from its version on; returns its offset. */
static inline size_t image_cie(struct image *image, const void *bytes, size_t len)
{
    size_t start = image->pos;

    image_put32(image, 0);
    image_put32(image, 0);
    image_put(image, bytes, len);
    image_end_entry(image, start);
    return start;
}

/* The CIE that compilers make: version 1, "zR" with pcrel sdata4, CFA rsp + 8, return address at CFA - 8. */
static inline size_t image_usual_cie(struct image *image)
{
    static const uint8_t bytes[] = {1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1};

    return image_cie(image, bytes, sizeof(bytes));
}

/* An FDE ("z", pcrel sdata4) of the CIE, for [off, off + len) of the file, with a program. */
static inline void image_fde(struct image *image, size_t cie, uint32_t off, uint32_t len, const void *program,
                             size_t program_sz)
{
    size_t start = image->pos;

    image_put32(image, 0);
    image_put32(image, (uint32_t)(image->pos - cie));
    image_put32(image, off - (uint32_t)image->pos);
    image_put32(image, len);
    image_put(image, "", 1); /* no augmentation data */
    image_put(image, program, program_sz);
    image_end_entry(image, start);
}

static inline int image_fd(const void *data, size_t len)
{
    int fd = memfd_create("image", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    return fd;
}

#endif
