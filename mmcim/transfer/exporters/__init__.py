# Copyright (c) mmcim contributors. All rights reserved.
"""One module per library that a backbone can go to.

Each has ``convert(net, tensors)``, which gives the tensors under the library's names and
what else it wants to know, and ``load``, which opens what has been written as the
library's users do, so that both networks can be compared.
"""
