"""The network once more, in PyTorch: a second implementation for tests and benchmarks.

Written from the paper (Bui, Shin and Moon, Biomedical Signal Processing and Control 54, 2019,
101613) with the module names of the authors' state dicts. Only this file and what imports it needs
torch; the package never does.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class _DenseLayer(nn.Module):
    """norm, 1x1x1 to 4 x growth, norm, 3x3x3 to growth, dropout, concatenated to the input."""

    def __init__(self, channels: int, growth_rate: int, dropout_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv1 = nn.Conv3d(channels, 4 * growth_rate, 1, bias=False)
        self.norm2 = nn.BatchNorm3d(4 * growth_rate)
        self.conv2 = nn.Conv3d(4 * growth_rate, growth_rate, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.norm1(x).relu())
        new = self.conv2(self.norm2(new).relu())
        return torch.cat([x, self.dropout(new)], dim=1)


class _Transition(nn.Module):
    """norm, 1x1x1 to half the channels, norm, 2x2x2 of stride 2 with bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.norm = nn.BatchNorm3d(channels)
        self.conv = nn.Conv3d(channels, half, 1, bias=False)
        self.pool_norm = nn.BatchNorm3d(half)
        self.pool = nn.Conv3d(half, half, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.norm(x).relu())
        return self.pool(self.pool_norm(x).relu())


class TorchSkipDenseNet3D(nn.Module):
    """Channels first: (N, in_channels, D, H, W) to logits (N, num_classes, D, H, W).

    D, H and W are multiples of 2 ** len(block_layers). BatchNorm is PyTorch's default, which is the
    paper's: epsilon 1e-5, and the running average keeps 0.9 of the old value.
    """

    def __init__(
        self,
        in_channels: int = 2,
        num_classes: int = 4,
        growth_rate: int = 16,
        stem_features: int = 32,
        block_layers: Sequence[int] = (4, 4, 4, 4),
        dropout_rate: float = 0.2,
    ) -> None:
        super().__init__()
        stem = stem_features
        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv3d(in_channels, stem, 3, padding=1, bias=False),
                norm0=nn.BatchNorm3d(stem),
                relu0=nn.ReLU(),
                conv1=nn.Conv3d(stem, stem, 3, padding=1, bias=False),
                norm1=nn.BatchNorm3d(stem),
                relu1=nn.ReLU(),
                conv2=nn.Conv3d(stem, stem, 3, padding=1, bias=False),
            )
        )
        self.features_bn = nn.Sequential(OrderedDict(norm2=nn.BatchNorm3d(stem), relu2=nn.ReLU()))
        self.conv_pool_first = nn.Conv3d(stem, stem, 2, stride=2, bias=False)

        self.dense_blocks = nn.ModuleList()
        self.transit_blocks = nn.ModuleList()
        self.upsampling_blocks = nn.ModuleList()
        channels = stem
        for index, layers in enumerate(block_layers):
            block = OrderedDict[str, nn.Module]()
            for layer in range(1, layers + 1):
                block[f"denselayer{layer}"] = _DenseLayer(channels, growth_rate, dropout_rate)
                channels += growth_rate
            self.dense_blocks.append(nn.Sequential(block))
            stride = 2 ** (index + 1)
            self.upsampling_blocks.append(
                nn.ConvTranspose3d(
                    channels,
                    num_classes,
                    kernel_size=stride + 2,
                    stride=stride,
                    padding=1,
                    groups=math.gcd(channels, num_classes),
                    bias=False,
                )
            )
            if index + 1 < len(block_layers):
                self.transit_blocks.append(_Transition(channels))
                channels //= 2

        joined = num_classes * len(block_layers) + stem
        self.bn_class = nn.BatchNorm3d(joined)
        self.conv_class = nn.Conv3d(joined, num_classes, 1)

        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.features(x)
        x = self.conv_pool_first(self.features_bn(skip))
        upsampled = []
        for index, block in enumerate(self.dense_blocks):
            x = block(x)
            upsampled.append(self.upsampling_blocks[index](x))
            if index < len(self.transit_blocks):
                x = self.transit_blocks[index](x)
        joined = torch.cat([*upsampled, skip], dim=1)
        return self.conv_class(self.bn_class(joined).relu())
