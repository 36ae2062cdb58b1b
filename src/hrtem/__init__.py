"""Find atoms in high resolution TEM images with networks trained on simulated images only.

Conventions, kept by every module:

* lengths in Å, energies in eV, doses in electrons per Å², angles in rad unless a name says otherwise;
* images are arrays ``(Y, X)``, batches of focal series ``(B, F, Y, X)``, maps ``(B, C, Y, X)``;
* positions are ``(x, y)``: x runs along the last axis, y along the one before; the origin is the
  *centre* of pixel ``[0, 0]``, so the pixel ``[j, i]`` lies at ``(i, j) * sampling``;
* positive defocus is underfocus: ``defocus = -C10``.
"""

__version__ = "0.1.0"
