"""What numpy raises for a file that is no array in its format (.npy, or .npz for several): it promises ValueError only.

Found by giving it damaged headers and archives: it evaluates a header as a Python literal, takes the shape as it is
said, and leaves zipfile and the decompressors to say what they like.
"""

import lzma
import struct
import tokenize
import zipfile
import zlib

NO_ARRAY = (
    EOFError,
    IndexError,  # an empty tuple as the type
    MemoryError,  # nesting too deep for the parser, or a shape of more than there is
    OSError,
    OverflowError,  # a shape beyond 64 bits
    RecursionError,
    SyntaxError,
    tokenize.TokenError,
    TypeError,  # True as a number of rows
    ValueError,
)
NO_ARCHIVE = (
    *NO_ARRAY,
    lzma.LZMAError,
    RuntimeError,  # a password is asked for, or the compression is none that Python knows
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
