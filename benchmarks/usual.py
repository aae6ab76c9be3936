"""Recipes the way they are usually written.

`loewe`: autograd, a DataLoader with two workers, the label overlaid sample by sample. `mpezeshki`:
as its published code has it, all samples at once through autograd, positives and negatives apart.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ffengine.download import torchvision


class OverlaidSamples(Dataset[tuple[Tensor, Tensor]]):
    """Positive and negative of one image, made when asked for, from the picture that torchvision's
    MNIST gives.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels  # (N, 28, 28) uint8 and (N,)
        self.to_tensor = torchvision().transforms.ToTensor()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.to_tensor(Image.fromarray(self.images[index].numpy(), mode="L"))
        label = int(self.labels[index])
        wrong = list(range(10))
        wrong.remove(label)
        return overlaid(image, label), overlaid(image, int(np.random.choice(wrong)))  # noqa: NPY002 - the usual way


def overlaid(image: Tensor, label: int) -> Tensor:
    """The image (1, 28, 28) with the one-hot of the label in its first pixels."""
    sample = image.clone()
    sample[:, 0, :10] = torch.nn.functional.one_hot(torch.tensor(label), num_classes=10)
    return sample


class PassingRelu(torch.autograd.Function):
    """Relu whose gradient passes dead units."""

    @staticmethod
    def forward(ctx: object, z: Tensor) -> Tensor:
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx: object, slope: Tensor) -> Tensor:
        return slope.clone()


class UsualLoewe:
    """Three layers of 1000 that learn from every batch, each from its own loss."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        self.layers = torch.nn.ModuleList([torch.nn.Linear(m, 1000) for m in (784, 1000, 1000)])
        self.optimizer = torch.optim.SGD(
            self.layers.parameters(), lr=1e-3, momentum=0.9, weight_decay=3e-4
        )
        self.running = [torch.full((1000,), 0.5) for _ in self.layers]
        self.loader = DataLoader(
            OverlaidSamples(images, labels),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=2,
            persistent_workers=True,
        )

    def epoch(self) -> None:
        """One pass over the samples."""
        for positive, negative in self.loader:
            self.optimizer.zero_grad()
            self.loss(torch.cat([positive, negative]).flatten(1)).backward()
            self.optimizer.step()

    def loss(self, x: Tensor) -> Tensor:
        """Summed over the layers; no gradient passes between them."""
        half = len(x) // 2
        targets = torch.cat([torch.ones(half), torch.zeros(half)])
        total = torch.zeros(())
        x = normalized(x)
        for number, layer in enumerate(self.layers):
            h: Tensor = PassingRelu.apply(layer(x))  # type: ignore[no-untyped-call]
            running = 0.9 * self.running[number].detach() + 0.1 * h[:half].mean(0)
            self.running[number] = running
            total = total + 0.03 * (running.mean() - running).square().mean()
            logits = h.square().sum(1) - h.shape[1]
            total = total + torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
            x = normalized(h.detach())
        return total


def normalized(x: Tensor) -> Tensor:
    """Samples of root mean square 1."""
    return x / (x.square().mean(1, keepdim=True).sqrt() + 1e-8)


class UsualPezeshki(torch.nn.Linear):
    """A layer that learns from all samples at once."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(inputs, width)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=0.03)

    def forward(self, x: Tensor) -> Tensor:
        """Activations of samples, whose lengths are taken out first."""
        direction = x / (x.norm(2, 1, keepdim=True) + 1e-4)
        return torch.relu(torch.mm(direction, self.weight.T) + self.bias.unsqueeze(0))

    def epoch(self, positive: Tensor, negative: Tensor) -> None:
        """One step."""
        raised = self.forward(positive).pow(2).mean(1)
        lowered = self.forward(negative).pow(2).mean(1)
        loss = torch.log(1 + torch.exp(torch.cat([2.0 - raised, lowered - 2.0]))).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
